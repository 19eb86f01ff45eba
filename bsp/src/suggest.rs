//! "Did you mean": the known name nearest to a mistyped one.

/// The candidate that `name` was most likely meant to be, or `None` where nothing is near enough to be one typing
/// slip or two away.
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let wanted = name.to_lowercase();
    candidates
        .into_iter()
        .map(|candidate| {
            let known = candidate.to_lowercase();
            // A name that was cut short, or that says more than it must, is as near as one slip.
            let part = wanted.len() >= 3 && (known.contains(&wanted) || wanted.contains(&known));
            let slips = strsim::damerau_levenshtein(&wanted, &known);
            (if part { slips.min(1) } else { slips }, candidate)
        })
        .filter(|(slips, candidate)| *slips <= candidate.len().max(name.len()).div_ceil(3))
        .min_by_key(|(slips, _)| *slips)
        .map(|(_, candidate)| candidate)
}

/// A sentence for an error: the nearest candidate if there is one, and all of them.
pub fn did_you_mean<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str> + Clone) -> String {
    let all = candidates.clone().into_iter().collect::<Vec<_>>().join(", ");
    match nearest(name, candidates) {
        Some(near) => format!("did you mean `{near}`? Known are: {all}"),
        None if all.is_empty() => "none are known here".to_owned(),
        None => format!("known are: {all}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOARDS: [&str; 3] = ["generic-arm64", "generic-armv7", "qemu-arm64"];

    #[test]
    fn slips_of_the_finger_are_found() {
        assert_eq!(nearest("qemu-arm46", BOARDS), Some("qemu-arm64"));
        assert_eq!(nearest("qemu", BOARDS), Some("qemu-arm64"));
        assert_eq!(nearest("QEMU-ARM64", BOARDS), Some("qemu-arm64"));
        assert_eq!(nearest("drivrs", ["drivers", "notes"]), Some("drivers"));
    }

    #[test]
    fn what_is_far_from_all_is_not_guessed() {
        assert_eq!(nearest("beagleboard", BOARDS), None);
        assert!(did_you_mean("beagleboard", BOARDS).starts_with("known are: generic-arm64, "));
        assert_eq!(nearest("x", []), None);
    }
}
