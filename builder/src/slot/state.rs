//! Which slot is good, and which is on trial: three files of one sector each, in the form of U-Boot's `env import -t`.
//!
//! A file of one sector that keeps its size is overwritten in place, by Linux and by U-Boot: no table of the file system
//! changes, and after a power cut the sector is the old one or the new one. One that is neither, or is gone, is passed over:
//! that of the trial means that there is none, and of the good slot there are two copies, written one after the other.

use super::{FOLDER, MOST_TRIES, SlotName};
use serde::Serialize;

/// Bytes of each file: a sector.
pub const STATE_SIZE: usize = 512;
/// The variable of both copies of the good slot's file.
pub(super) const GOOD: &str = "vambrace_good";
/// Those of the trial's.
pub(super) const TRIAL: &str = "vambrace_trial";
pub(super) const TRIES: &str = "vambrace_tries";

/// A slot on trial.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Trial {
    /// The slot.
    pub slot: SlotName,
    /// How often it is still tried; 0 where it has failed.
    pub tries: u8,
}

/// What the files say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct State {
    /// The good slot, by each copy; `None` where one says nothing that can be read.
    pub good: [Option<SlotName>; 2],
    /// The slot on trial.
    pub trial: Option<Trial>,
}

impl State {
    /// The paths of the good slot's two copies, in the order in which they are read and written.
    pub const GOOD_PATHS: [&str; 2] = ["vambrace/good", "vambrace/good.copy"];
    /// The path of the trial's file.
    pub const TRIAL_PATH: &str = "vambrace/trial";

    /// The state that is in the files, by their paths; what is `None` is not there.
    pub fn read(mut file: impl FnMut(&str) -> Option<Vec<u8>>) -> Self {
        let mut values = |path: &str| file(path).map(|bytes| values(&bytes)).unwrap_or_default();
        let good = Self::GOOD_PATHS.map(|path| SlotName::parse(values(path).get(GOOD)?));
        let trial = values(Self::TRIAL_PATH);
        let tries = trial.get(TRIES).and_then(|text| (0..=MOST_TRIES).find(|n| n.to_string() == text));
        let slot = trial.get(TRIAL).and_then(SlotName::parse);
        let trial = slot.zip(tries).map(|(slot, tries)| Trial { slot, tries });
        Self { good, trial }
    }

    /// The good slot, as the script takes it: what the first copy says that can be read, or else the slot that every image
    /// begins with.
    pub fn good(&self) -> SlotName {
        self.good.into_iter().flatten().next().unwrap_or(SlotName::A)
    }

    /// The slot that is tried at the next boot; `None` where that begins with the good one.
    pub fn tried(&self) -> Option<Trial> {
        self.trial.filter(|trial| trial.tries > 0 && trial.slot != self.good())
    }

    /// The slot that U-Boot begins with.
    pub fn first(&self) -> SlotName {
        self.tried().map_or(self.good(), |trial| trial.slot)
    }

    /// The file that says which slot is good.
    pub fn good_file(slot: SlotName) -> Vec<u8> {
        sector(&format!("{GOOD}={slot}\n"))
    }

    /// The file that says which slot is on trial.
    pub fn trial_file(trial: Option<Trial>) -> Vec<u8> {
        sector(&match trial {
            Some(Trial { slot, tries }) => format!("{TRIAL}={slot}\n{TRIES}={}\n", tries.min(MOST_TRIES)),
            None => format!("{TRIAL}=none\n{TRIES}=0\n"),
        })
    }

    /// Whether `path` is one of the files of state.
    pub fn is_of(path: &str) -> bool {
        let known = Self::GOOD_PATHS.iter().chain([&Self::TRIAL_PATH]);
        path.starts_with(FOLDER) && known.into_iter().any(|known| *known == path)
    }
}

/// `text`, and zeros to the end of the sector: U-Boot takes a zero for the end of an environment.
fn sector(text: &str) -> Vec<u8> {
    let mut bytes = text.as_bytes().to_vec();
    bytes.resize(STATE_SIZE, 0);
    bytes
}

/// The variables of a file.
#[derive(Debug, Default)]
struct Values(Vec<(String, String)>);

impl Values {
    fn get(&self, name: &str) -> Option<&str> {
        // Of two, U-Boot keeps the last.
        self.0.iter().rev().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

fn values(bytes: &[u8]) -> Values {
    let sector = bytes.get(..STATE_SIZE).unwrap_or(bytes);
    let text = sector.split(|byte| *byte == 0).next().unwrap_or_default();
    let text = String::from_utf8_lossy(text);
    let pairs = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once('='));
    Values(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use SlotName::{A, B};
    use proptest::prelude::*;

    fn state(good: &[u8], copy: &[u8], trial: &[u8]) -> State {
        State::read(|path| match path {
            "vambrace/good" => Some(good.to_vec()),
            "vambrace/good.copy" => Some(copy.to_vec()),
            _ => Some(trial.to_vec()),
        })
    }

    #[test]
    fn what_is_written_is_read() {
        let (a, b) = (State::good_file(A), State::good_file(B));
        assert!(a.len() == STATE_SIZE && a.starts_with(b"vambrace_good=a\n\0"));
        let trial = Some(Trial { slot: B, tries: 2 });
        let read = state(&a, &b, &State::trial_file(trial));
        assert_eq!((read.good, read.trial), ([Some(A), Some(B)], trial));
        assert_eq!((read.good(), read.tried(), read.first()), (A, trial, B));
        // As U-Boot exports it.
        let counted = state(&a, &a, b"vambrace_tries=0\nvambrace_trial=b\n\0\0");
        assert_eq!((counted.trial, counted.first()), (Some(Trial { slot: B, tries: 0 }), A));
    }

    #[test]
    fn a_torn_file_leads_to_the_good_slot() {
        let (a, b) = (State::good_file(A), State::good_file(B));
        let trial = State::trial_file(Some(Trial { slot: A, tries: 1 }));
        for torn in [&b"\xff\xff\xff"[..], b"", b"vambrace_good=", b"vambrace_good=ab\n", b"vambrace_goo"] {
            assert_eq!(state(torn, &b, &State::trial_file(None)).first(), B, "{torn:?}");
            assert_eq!(state(torn, torn, torn).first(), A, "{torn:?}");
            assert_eq!(state(&b, torn, torn).first(), B, "{torn:?}");
        }
        assert_eq!(state(&a, &a, &trial).tried(), None, "the good slot is on no trial");
        for many in ["4", "-1", "01", "", "99999999999"] {
            let trial = format!("vambrace_trial=b\nvambrace_tries={many}\n");
            assert_eq!(state(&a, &a, trial.as_bytes()).first(), A, "{many}");
        }
        assert_eq!(State::read(|_| None).first(), A);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..600)) {
            let read = state(&bytes, &bytes, &bytes);
            prop_assert!(read.trial.is_none_or(|trial| trial.tries <= MOST_TRIES));
        }
    }
}
