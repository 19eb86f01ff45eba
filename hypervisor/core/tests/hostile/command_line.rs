//! Command lines.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use vambrace_core::cmdline::Options;

use crate::few;

const WORDS: &[&str] = &[
    "dom0_mem",
    "dom0_max_vcpus",
    "dtuart",
    "console",
    "maxcpus",
    "loglvl",
    "noreboot",
    "sync_console",
    "conswitch",
    "mem",
    "=",
    "512M",
    "max:1G",
    "-1",
    "18446744073709551616",
    "99999999999999999999T",
    "1:",
    ",",
    "\"",
    " ",
    "  ",
    "\t",
    "\u{e9}",
    "x",
];

proptest! {
    #![proptest_config(few(96))]

    #[test]
    fn command_lines(words in vec(select(WORDS), 0..24), noise in ".{0,40}") {
        Options::parse(&words.concat());
        let line = format!("{noise} {}={noise}", words.first().unwrap_or(&"mem"));
        let options = Options::parse(&line);
        // Reading is a function of the line alone.
        prop_assert_eq!(format!("{options:?}"), format!("{:?}", Options::parse(&line)));
    }
}
