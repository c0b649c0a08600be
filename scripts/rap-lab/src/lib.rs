//! Namespace topologies, quickstart and lab runs.
