//! The control plane: decides, signs, distributes.
