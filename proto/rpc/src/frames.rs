//! Frames of HTTP/2 that carry no call: PING, SETTINGS, PRIORITY, WINDOW_UPDATE, empty DATA and what is unknown. Each costs
//! the other end a few bytes and this one an answer or a look.
//!
//! Owns how many may come. A connection may send many at once, then a few each second, and more with each piece of data
//! that goes over it. Refuses to read more than the nine bytes before each frame.

use std::time::Duration;

use tokio::time::Instant;

/// The frames of one connection, counted.
pub(crate) struct Frames {
    header: [u8; HEADER],
    known: usize,
    /// Bytes until the next header.
    skip: usize,
    left: u64,
    /// Bytes of calls and answers that were not turned into frames yet.
    carried: usize,
    refilled: Instant,
}

impl Frames {
    /// Counts what follows a preface of this length.
    pub(crate) const fn after(preface: usize, now: Instant) -> Self {
        Self { header: [0; HEADER], known: 0, skip: preface, left: BURST, carried: 0, refilled: now }
    }

    /// Takes in what was read. False once there were more such frames than may come.
    pub(crate) fn read(&mut self, mut bytes: &[u8], now: Instant) -> bool {
        while !bytes.is_empty() {
            let skipped = self.skip.min(bytes.len());
            self.skip -= skipped;
            bytes = &bytes[skipped..];
            let wanted = (HEADER - self.known).min(bytes.len());
            self.header[self.known..self.known + wanted].copy_from_slice(&bytes[..wanted]);
            self.known += wanted;
            bytes = &bytes[wanted..];
            if self.known == HEADER {
                self.known = 0;
                if !self.begun(now) {
                    return false;
                }
            }
        }
        true
    }

    /// Takes in how much was written: whoever reads much has much to confirm.
    pub(crate) fn written(&mut self, bytes: usize) {
        self.carried += bytes;
    }

    /// A frame begins.
    fn begun(&mut self, now: Instant) -> bool {
        let [a, b, c, kind, flags, ..] = self.header;
        let length = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
        self.skip = length;
        match kind {
            DATA if length > 0 || flags & END_STREAM != 0 => self.carried += length,
            // They have limits of their own in the HTTP/2 library.
            HEADERS => self.carried += PER_FRAME,
            RST_STREAM | GOAWAY | CONTINUATION => {}
            _ => return self.take(now),
        }
        true
    }

    fn take(&mut self, now: Instant) -> bool {
        if self.left == 0 {
            let whole = now.duration_since(self.refilled).as_secs();
            self.refilled += Duration::from_secs(whole);
            let carried = (self.carried / PER_FRAME) as u64;
            self.carried %= PER_FRAME;
            self.left = (whole.saturating_mul(PER_SECOND)).saturating_add(carried).min(BURST);
        }
        self.left.checked_sub(1).map(|left| self.left = left).is_some()
    }
}

/// Of a frame (RFC 9113, 4.1).
const HEADER: usize = 9;
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;

const BURST: u64 = 1024;
const PER_SECOND: u64 = 64;
/// One more frame for so many bytes.
const PER_FRAME: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, length: u8) -> Vec<u8> {
        [&[0, 0, length, kind, flags, 0, 0, 0, 1][..], &vec![kind; usize::from(length)]].concat()
    }

    /// How many of these frames are taken at once, at most 10,000.
    fn taken(one: &[u8], before_each: impl Fn(&mut Frames)) -> usize {
        let now = Instant::now();
        let mut frames = Frames::after(3, now);
        assert!(frames.read(b"PRI", now));
        let mut is_taken = || {
            before_each(&mut frames);
            frames.read(one, now)
        };
        (0..10_000).take_while(|_| is_taken()).count()
    }

    #[test]
    fn frames_without_a_call_are_taken_up_to_a_burst() {
        const PRIORITY: u8 = 2;
        const SETTINGS: u8 = 4;
        const PING: u8 = 6;
        const WINDOW_UPDATE: u8 = 8;
        for (kind, length) in
            [(PRIORITY, 5), (SETTINGS, 0), (SETTINGS, 6), (PING, 8), (WINDOW_UPDATE, 4), (99, 200)]
        {
            assert_eq!(taken(&frame(kind, 0, length), |_| {}), BURST as usize, "{kind}");
        }
        assert_eq!(taken(&frame(DATA, 0, 0), |_| {}), BURST as usize, "empty data");
    }

    #[test]
    fn calls_and_their_answers_are_never_too_many() {
        let call = [frame(HEADERS, 4, 40), frame(DATA, 1, 100), frame(8, 0, 4)].concat();
        assert_eq!(taken(&call, |_| {}), 10_000);
        let confirmed = frame(8, 0, 4);
        assert_eq!(taken(&confirmed, |frames| frames.written(16 * 1024)), 10_000, "windows of much data");
        let (ping, mut now) = (frame(6, 0, 8), Instant::now());
        let mut frames = Frames::after(0, now);
        for _ in 0..5_000 {
            now += Duration::from_millis(20);
            assert!(frames.read(&ping, now), "fifty a second");
        }
    }

    #[test]
    fn the_pieces_in_which_bytes_come_make_no_difference() {
        let now = Instant::now();
        let bytes = [b"PRI".to_vec(), frame(6, 0, 8).repeat(BURST as usize)].concat();
        for size in [1, 2, 7, 9, 17, 1000] {
            let mut frames = Frames::after(3, now);
            assert!(bytes.chunks(size).all(|piece| frames.read(piece, now)), "{size}");
            assert!(!frames.read(&frame(6, 0, 8), now), "{size}");
        }
    }
}
