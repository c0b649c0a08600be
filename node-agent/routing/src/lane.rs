//! The lanes of a path and what each of them minds.
//!
//! Owns the weights: one table, a row per lane. A path serves one lane, so the classes of a lane share its row.

use rap_types::ChannelClass;
use serde::{Deserialize, Serialize};

/// The lane that a path serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Lane {
    /// Input, control, clipboard.
    A,
    /// Render, telemetry.
    B,
    /// File, vpn.
    C,
}

impl Lane {
    /// The lane that carries a class.
    pub const fn of(class: ChannelClass) -> Self {
        match class {
            ChannelClass::Input | ChannelClass::Control | ChannelClass::Clipboard => Self::A,
            ChannelClass::Render | ChannelClass::Telemetry => Self::B,
            ChannelClass::File | ChannelClass::Vpn => Self::C,
        }
    }

    /// Lower-case letter.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::A => "a",
            Self::B => "b",
            Self::C => "c",
        }
    }

    pub(crate) const fn weights(self) -> &'static Weights {
        &WEIGHTS[self as usize]
    }
}

/// What turns a measurement into cost. Cost is in equivalent milliseconds; lower is better.
#[derive(Debug)]
pub(crate) struct Weights {
    /// Per millisecond of deviation.
    pub(crate) jitter: f64,
    /// Milliseconds per nat of -ln(1 - loss): 1 % of loss costs about a hundredth of it.
    pub(crate) loss: f64,
    /// Milliseconds per nat of -ln(share of time that the link was up).
    pub(crate) reliability: f64,
    /// Milliseconds per unit of u / (1 - u).
    pub(crate) load: f64,
    /// Milliseconds per relay.
    pub(crate) relay: f64,
    /// Milliseconds per unit of the relay's figure of merit.
    pub(crate) flap: f64,
    /// Milliseconds for a link between two regions.
    pub(crate) region: f64,
    /// A better path must be better by this share of the present cost,
    pub(crate) hysteresis: f64,
    /// and by more than so many microseconds.
    pub(crate) least_us: u32,
}

/// Rows of the classes input, render and vpn.
const WEIGHTS: [Weights; 3] = [
    Weights {
        jitter: 2.0,
        loss: 4000.0,
        reliability: 300.0,
        load: 5.0,
        relay: 1.0,
        flap: 30.0,
        region: 5.0,
        hysteresis: 0.10,
        least_us: 2000,
    },
    Weights {
        jitter: 3.0,
        loss: 1500.0,
        reliability: 200.0,
        load: 8.0,
        relay: 1.5,
        flap: 20.0,
        region: 5.0,
        hysteresis: 0.10,
        least_us: 2000,
    },
    Weights {
        jitter: 0.5,
        loss: 1000.0,
        reliability: 300.0,
        load: 10.0,
        relay: 3.0,
        flap: 10.0,
        region: 3.0,
        hysteresis: 0.20,
        least_us: 5000,
    },
];
