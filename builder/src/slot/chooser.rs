//! `boot.scr` of an image with slots: it chooses, counts the try, and hands over to the slot's own script.

use super::state::{GOOD, TRIAL, TRIES};
use super::{FOLDER, MOST_TRIES, SCRIPT, SlotName, State};
use std::fmt::Write as _;

/// What the script begins with, by which it is known again.
pub const MARK: &str = "# Starts one of two slots";
/// Room for this script from the address on where U-Boot puts boot scripts. State and slots' scripts are read behind it: it
/// is fixed, for slots come from other builds than the script that reads them.
pub const ROOM: u64 = 16 << 10;
/// The variable with the slot that is started, as its script names its files by it.
pub const SLOT: &str = "vambrace_slot";
/// The variable with what a slot's script adds to dom0's command line: the slot, whether it is on trial, and the medium's
/// root file system, which is another one than that of the build that a slot comes from.
pub const DOM0: &str = "vambrace_dom0";
/// A slot's script has at most this many bytes, in hexadecimal.
const MOST_SCRIPT: u64 = 1 << 20;

/// The script's text, for U-Boot's shell.
///
/// `address` is where U-Boot puts boot scripts; `root` says where the medium's root file system is, as `root=` does.
///
/// The slot on trial comes first, while it has tries left. A try is counted on the medium before it is made, and read back
/// from it: one that is not counted would be made for ever. A slot whose script comes back has not started, and the next one
/// is taken at once: the good one, and at the very last the other one, which may have been good before. A file of state that
/// cannot be read is passed over.
pub fn text(board: &str, address: u64, root: &str) -> String {
    let at = address + ROOM;
    let read = |file: &str, names: &str| {
        format!("load ${{vambrace_at}} {at:#x} {file} 200 && env import -t {at:#x} ${{filesize}} {names}")
    };
    let mut text = format!(
        "{MARK} on {board}: the one on trial while it has tries left, or else the good one.\n\
         # It is written when the image is built, and never again.\n"
    );
    let mut line = |content: &str| {
        let _ = writeln!(text, "{content}");
    };
    line("setenv vambrace_at \"${devtype} ${devnum}:${distro_bootpart}\"");
    line(&format!("setenv {GOOD}"));
    for file in State::GOOD_PATHS {
        let known = SlotName::ALL.map(|slot| format!("test \"${{{GOOD}}}\" = {slot}")).join(" || ");
        line(&format!("if {known}; then true; else setenv {GOOD}; {}; fi", read(file, GOOD)));
    }
    let [a, b] = SlotName::ALL;
    line(&format!(
        "if test \"${{{GOOD}}}\" = {a}; then setenv vambrace_other {b}; elif test \"${{{GOOD}}}\" = {b}; then \
         setenv vambrace_other {a}; else echo \"vambrace: nothing says which slot is good; {a} is taken for it\"; \
         setenv {GOOD} {a}; setenv vambrace_other {b}; fi"
    ));
    line(&format!(
        "setenv vambrace_try 'echo \"vambrace: starting slot ${{{SLOT}}}\"; setenv {DOM0} \
         \"vambrace.slot=${{{SLOT}}} root={root}${{vambrace_on_trial}}\"; load ${{vambrace_at}} {at:#x} \
         {FOLDER}/${{{SLOT}}}/{SCRIPT} {MOST_SCRIPT:x} && source {at:#x}; \
         echo \"vambrace: slot ${{{SLOT}}} did not start\"'"
    ));
    line(&format!(
        "setenv vambrace_read 'setenv {TRIAL}; setenv {TRIES}; {}'",
        read(State::TRIAL_PATH, &format!("{TRIAL} {TRIES}"))
    ));
    line(&format!(
        "setenv vambrace_count 'env export -t -s 200 {at:#x} {TRIAL} {TRIES} && fatwrite ${{vambrace_at}} {at:#x} {} 200'",
        State::TRIAL_PATH
    ));
    line("run vambrace_read");
    line("setenv vambrace_left none");
    for tries in 1..=MOST_TRIES {
        line(&format!(
            "if test \"${{{TRIAL}}}\" = ${{vambrace_other}} && test \"${{{TRIES}}}\" = {tries}; then \
             setenv vambrace_left {}; fi",
            tries - 1
        ));
    }
    line("if test ${vambrace_left} != none; then");
    line(&format!("  setenv {TRIES} ${{vambrace_left}}"));
    line("  run vambrace_count");
    line(&format!("  mw.b {at:#x} 0 200"));
    line("  run vambrace_read");
    line(&format!("  if test \"${{{TRIES}}}\" = ${{vambrace_left}}; then"));
    line(&format!("    setenv {SLOT} ${{vambrace_other}}"));
    line("    setenv vambrace_on_trial \" vambrace.trial\"");
    line("    run vambrace_try");
    line("    setenv vambrace_on_trial");
    line("    # What U-Boot cannot start today it cannot start tomorrow.");
    line(&format!("    setenv {TRIAL} ${{vambrace_other}}"));
    line(&format!("    setenv {TRIES} 0"));
    line("    run vambrace_count");
    line("  else");
    line("    echo \"vambrace: the medium does not keep how many tries are left, so there is none\"");
    line("  fi");
    line("fi");
    for slot in [GOOD, "vambrace_other"] {
        line(&format!("setenv {SLOT} ${{{slot}}}"));
        line("run vambrace_try");
    }
    line("echo \"vambrace: U-Boot could not start the hypervisor of either slot\"");
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::uboot::boot_script;
    use vambrace_bsp::Architecture;

    #[test]
    fn the_script_fits_where_it_lies() {
        let text = text("a-board-with-a-long-name", 0x4020_0000, "UUID=01234567-89ab-cdef-0123-456789abcdef");
        let image = boot_script(&text, Architecture::Aarch64, 0).unwrap();
        assert!((image.len() as u64) < ROOM / 2, "{}", image.len());
        // Quotes of the shell do not nest, and are closed on each line.
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            assert!(line.matches('\'').count() % 2 == 0 && line.matches('"').count() % 2 == 0, "{line}");
        }
        assert!(text.contains("load ${vambrace_at} 0x40204000 vambrace/good 200 "), "{text}");
    }

    #[test]
    fn a_try_is_counted_before_it_is_made() {
        let text = text("b", 0x1000, "UUID=x");
        let at = |part: &str| text.find(part).unwrap();
        assert!(at("\n  run vambrace_count") < at("\n  run vambrace_read"));
        assert!(at("\n  run vambrace_read") < at("\n    run vambrace_try"));
        assert!(at("\n    run vambrace_try") < at("\nrun vambrace_try"));
    }
}
