//! How often what others changed on the host is put right.

use std::collections::VecDeque;
use std::time::Duration;

use rap_types::Mono;

/// Counts corrections. After too many another manager of the host wants it otherwise: hands off.
#[derive(Debug, Clone, Default)]
pub struct PutRight {
    made: VecDeque<Mono>,
    contested: bool,
}

impl PutRight {
    /// Something is not as wanted. True if it is to be put right now; that counts as one correction.
    pub fn may_correct(&mut self, now: Mono) -> bool {
        while self.made.front().is_some_and(|made| now.since(*made) >= WINDOW) {
            self.made.pop_front();
        }
        self.contested |= self.made.len() >= MOST;
        if !self.contested {
            self.made.push_back(now);
        }
        !self.contested
    }

    /// Everything is as wanted.
    pub fn is_right(&mut self) {
        self.contested = false;
    }

    /// True while what is wanted and what is there differ and are left so.
    pub fn is_contested(&self) -> bool {
        self.contested
    }
}

const MOST: usize = 5;
const WINDOW: Duration = Duration::from_secs(600);

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: u64) -> Mono {
        Mono(seconds * 1_000_000_000)
    }

    #[test]
    fn five_corrections_in_ten_minutes_and_the_next_change_is_left_alone() {
        let mut put_right = PutRight::default();
        assert!((0..5).all(|second| put_right.may_correct(seconds(second))));
        assert!(!put_right.may_correct(seconds(5)) && put_right.is_contested());
        assert!(!put_right.may_correct(seconds(5000)), "hands off until it is as wanted");
        put_right.is_right();
        assert!(!put_right.is_contested());
        assert!(put_right.may_correct(seconds(5001)));
    }

    #[test]
    fn corrections_that_are_far_apart_never_end() {
        let mut put_right = PutRight::default();
        assert!((0..100).all(|number| put_right.may_correct(seconds(number * 121))));
        put_right.is_right();
        assert!(put_right.may_correct(seconds(12_100)));
        assert!(!put_right.may_correct(seconds(12_101)), "being right again does not forget the window");
    }
}
