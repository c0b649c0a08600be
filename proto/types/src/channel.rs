//! The seven channel classes of a link.

use crate::role::word_enum;

word_enum! {
    /// What kind of traffic a frame carries; decides order, loss, queue and priority.
    ChannelClass {
        /// Keyboard and pointer: ordered, reliable, highest priority under a byte budget.
        Input = "input",
        /// Session control: ordered, reliable.
        Control = "control",
        /// Screen updates: droppable, latest frame wins.
        Render = "render",
        /// Clipboard: ordered, reliable, policy-gated.
        Clipboard = "clipboard",
        /// File transfer: ordered chunks, resumable, low priority.
        File = "file",
        /// Tunnelled packets: unordered, droppable.
        Vpn = "vpn",
        /// Measurements: sampled, dropped first.
        Telemetry = "telemetry",
    }
}
