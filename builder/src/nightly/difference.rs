//! Where the console of a boot went another way than that of one that passed.
//!
//! No two boots say the same: times and addresses differ, and CPUs speak in another order. So lines are compared without
//! their numbers, and one counts as new only if the other console has it nowhere.

use std::collections::BTreeSet;

use super::outcome::Difference;

/// Characters of a line that are kept.
const MAX_LINE: usize = 300;

/// The first line of `here` that `good` does not have; or, where it has them all, what `good` says behind the last of
/// them. `None` where both say the same. What was `typed` is shown wherever the machine happens to be, and does not count.
pub(super) fn difference(here: &[String], good: &[String], typed: &[String]) -> Option<Difference> {
    let shows = |line: &str| typed.iter().any(|typed| line.contains(typed.as_str()));
    let compared = |line: &String| if shows(line) { String::new() } else { without_numbers(line) };
    let plain: Vec<String> = good.iter().map(compared).collect();
    let known: BTreeSet<&str> = plain.iter().map(String::as_str).collect();
    // How far the other one is followed.
    let (mut behind, mut last) = (0, 0);
    for (index, line) in here.iter().enumerate() {
        let line = compared(line);
        if line.is_empty() {
            continue;
        }
        if !known.contains(line.as_str()) {
            return Some(Difference {
                number: index + 1,
                here: here.get(index).map(|line| shortened(line)).unwrap_or_default(),
                there: good.get(behind).map(|line| shortened(line)).unwrap_or_default(),
            });
        }
        // The next of those that are the same; one that came earlier there moves nothing.
        let next = plain.iter().skip(behind).position(|other| *other == line);
        behind += next.map_or(0, |at| at + 1);
        last = index + 1;
    }
    let rest = plain.iter().zip(good).skip(behind).find(|(plain, _)| !plain.is_empty());
    rest.map(|(_, there)| Difference { number: last + 1, here: String::new(), there: shortened(there) })
}

/// The line without a kernel's time, and with `#` for each number and each word of hexadecimal digits.
fn without_numbers(line: &str) -> String {
    let mut text = String::new();
    let line = strip_rate(strip_time(line.trim()));
    for word in line.split_inclusive(|c: char| !c.is_ascii_alphanumeric()) {
        let (word, end) = match word.char_indices().last() {
            Some((at, c)) if !c.is_ascii_alphanumeric() => word.split_at(at),
            _ => (word, ""),
        };
        let digits = word.strip_prefix("0x").unwrap_or(word);
        let hexadecimal = digits.len() >= 4 && digits.chars().all(|c| c.is_ascii_hexdigit());
        if !digits.is_empty()
            && (hexadecimal && digits.contains(|c: char| c.is_ascii_digit()) || word != digits)
        {
            text.push('#');
        } else {
            let mut number = false;
            for c in word.chars() {
                if !c.is_ascii_digit() {
                    text.push(c);
                } else if !number {
                    text.push('#');
                }
                number = c.is_ascii_digit();
            }
        }
        text.push_str(end);
    }
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The line behind `[    1.234567] `.
fn strip_time(line: &str) -> &str {
    let time = |time: &str| time.trim().chars().all(|c| c.is_ascii_digit() || c == '.');
    match line.strip_prefix('[').and_then(|rest| rest.split_once("] ")) {
        Some((inside, rest)) if time(inside) => rest,
        _ => line,
    }
}

/// The line without `(382.1 MiB/s)` at its end, which U-Boot leaves out where no time has passed.
fn strip_rate(line: &str) -> &str {
    match line.rsplit_once(" (") {
        Some((rest, rate)) if rate.ends_with("B/s)") => rest,
        _ => line,
    }
}

fn shortened(line: &str) -> String {
    line.trim_end().chars().take(MAX_LINE).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(here: &[&str], good: &[&str]) -> Option<(usize, String, String)> {
        let lines = |lines: &[&str]| lines.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>();
        let typed = ["selftest cpus=4".to_owned()];
        difference(&lines(here), &lines(good), &typed).map(|one| (one.number, one.here, one.there))
    }

    #[test]
    fn what_was_typed_is_passed_over_wherever_it_shows() {
        let good = ["ready", "# selftest cpus=4", "done"];
        assert_eq!(of(&["reselftest cpus=4", "ready", "done"], &good), None);
        assert_eq!(
            of(&["ready", "selftest"], &good),
            Some((2, "selftest".into(), "# selftest cpus=4".into()))
        );
    }

    #[test]
    fn times_addresses_and_order_make_no_difference() {
        let good = [
            "[    0.1] Memory: 990120K at 0x40001000",
            "[ 1.5] cpu 1 up",
            "[ 1.6] cpu 2 up",
            "id 0a1b2c3d",
            "17 bytes read in 1 ms (16.6 KiB/s)",
        ];
        let here = [
            "[   10.7] Memory: 77K at 0x9000",
            "",
            "[ 9.9] cpu 2 up",
            "[ 9.8] cpu 1 up",
            "id ffff0001",
            "17 bytes read in 0 ms",
        ];
        assert_eq!(of(&here, &good), None);
    }

    #[test]
    fn the_first_line_that_is_new_is_told_with_what_came_there() {
        let good = ["one", "two", "three"];
        assert_eq!(of(&["one", "oops", "three"], &good), Some((2, "oops".into(), "two".into())));
        assert_eq!(of(&["one"], &good), Some((2, String::new(), "two".into())));
        assert_eq!(of(&[], &good), Some((1, String::new(), "one".into())));
        assert_eq!(of(&["x"], &[]), Some((1, "x".into(), String::new())));
        assert_eq!(of(&[], &[]), None);
    }

    #[test]
    fn words_stay_words() {
        assert_eq!(without_numbers("dead beef feed bad1 x12y0"), "dead beef feed # x#y#");
        assert_eq!(without_numbers("[a] b"), "[a] b");
        assert_eq!(without_numbers("7 of 12, 0x1f"), "# of #, #");
    }
}
