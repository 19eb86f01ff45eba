//! Two slots, of which U-Boot starts one (`slot`): which one that is, and whether the next is there when it does not start.

use super::super::fault::Fault;
use super::super::thing::Cpu;
use super::{Medium, Place, Verdict};
use crate::port::Level;
use crate::slot::{FOLDER, SCRIPT, STATE_SIZE, SlotName, State, chooser, path};

/// Whether a boot script is the one that chooses a slot.
pub(super) fn chooses(text: &str) -> bool {
    text.starts_with(chooser::MARK)
}

/// The text of a slot's script as it runs when it is that slot's. `file` is its path.
pub(in super::super) fn of_slot(file: &str, text: &str) -> Option<String> {
    let name = file.strip_prefix(FOLDER)?.strip_prefix('/')?.strip_suffix(SCRIPT)?.strip_suffix('/')?;
    let slot = SlotName::parse(name)?;
    Some(text.replace(&format!("${{{}}}", chooser::SLOT), slot.name()))
}

impl Medium<'_> {
    /// What the script that chooses a slot starts.
    pub(super) fn slots(
        &self,
        place: &Place<'_>,
        at: &str,
        cpu: Option<Cpu>,
        verdict: &mut Verdict,
        faults: &mut Vec<Fault>,
    ) {
        let read = |path: &str| place.volume?.find(path)?.read(STATE_SIZE as u64).ok();
        let state = State::read(read);
        if state.good[0].is_none() {
            let what = match state.good[1] {
                Some(good) => format!("it does not say which slot is good; its copy does: {good}"),
                None => "neither it nor its copy says which slot is good, and a is taken for it".to_owned(),
            };
            faults.push(Fault::warning(place.at(State::GOOD_PATHS[0]), what));
        }
        let good = state.good();
        let tried = state.tried().map(|trial| (trial.slot, format!("on trial, {} left", trial.tries)));
        let order = tried
            .into_iter()
            .chain([(good, "good".to_owned()), (good.other(), "the last resort".to_owned())]);
        let mut broken: Option<(Verdict, Vec<Fault>)> = None;
        for (slot, standing) in order {
            let (mut own, mut wrong) = (Verdict::new("U-Boot"), Vec::new());
            own.step(format!("slot {slot}: {standing}"), place.at(State::GOOD_PATHS[0]));
            self.slot(place, slot, cpu, &mut own, &mut wrong);
            if own.boots {
                // What is wrong with one that is not started does not keep it from booting.
                let passed_over = broken.into_iter().flat_map(|(_, wrong)| wrong);
                faults.extend(passed_over.map(|fault| Fault { level: Level::Warning, ..fault }));
                take(own, wrong, verdict, faults);
                return;
            }
            if broken.is_none() || slot == good {
                broken = Some((own, wrong));
            }
        }
        if let Some((own, wrong)) = broken {
            take(own, wrong, verdict, faults);
            faults.push(Fault::error(at, "neither slot that it chooses from can be started"));
        }
    }

    /// What the script of `slot` starts.
    fn slot(
        &self,
        place: &Place<'_>,
        slot: SlotName,
        cpu: Option<Cpu>,
        verdict: &mut Verdict,
        faults: &mut Vec<Fault>,
    ) {
        let name = path(slot, SCRIPT);
        let Some(file) = place.file(&name) else {
            let fault = Fault::error(place.at(&name), format!("slot {slot} has no script"));
            return verdict.fails(fault.help("install a bundle into it: `vambrace slot install`"), faults);
        };
        for fault in file.thing.faults(&file.at) {
            verdict.fails(fault, faults);
        }
        match file.thing.text.as_deref().and_then(|text| of_slot(&name, text)) {
            Some(text) => self.script(place, &file.at, &text, cpu, verdict, faults),
            None => {
                let what = format!("it is {}, and no script image", file.thing.what);
                verdict.fails(Fault::error(file.at, what), faults);
            }
        }
    }
}

/// Adds the steps and faults of the slot that is started, or of the one that should be.
fn take(own: Verdict, wrong: Vec<Fault>, verdict: &mut Verdict, faults: &mut Vec<Fault>) {
    verdict.boots &= own.boots;
    verdict.hypervisor |= own.hypervisor;
    verdict.steps.extend(own.steps);
    verdict.why_not.extend(own.why_not);
    faults.extend(wrong);
}

#[cfg(test)]
mod tests {
    use super::super::super::tests::{errors, hypervisor, kernel, of_files, script};
    use super::super::super::{Account, Level};
    use super::*;
    use crate::slot::Trial;
    use SlotName::{A, B};

    const SLOT: &str = "load mmc 0:1 0x100000 vambrace/${vambrace_slot}/hyp\nload mmc 0:1 0x200000 \
                        vambrace/${vambrace_slot}/kernel\nbooti 0x100000 - 0x300000\n";

    /// A card with slots; of those in `whole` everything is there, of the others the kernel is missing.
    fn card(whole: &[SlotName], good: Option<SlotName>, trial: Option<Trial>) -> Account {
        let mut files = vec![("boot.scr".to_owned(), script(&chooser::text("b", 0x1000, "UUID=x")))];
        for slot in SlotName::ALL {
            files.push((path(slot, SCRIPT), script(SLOT)));
            files.push((path(slot, "hyp"), hypervisor()));
            files.extend(whole.contains(&slot).then(|| (path(slot, "kernel"), kernel())));
        }
        for path in State::GOOD_PATHS {
            files.extend(good.map(|good| (path.to_owned(), State::good_file(good))));
        }
        files.push((State::TRIAL_PATH.to_owned(), State::trial_file(trial)));
        of_files(files)
    }

    fn line(account: &Account) -> String {
        account.verdicts.first().map(Verdict::line).unwrap_or_default()
    }

    #[test]
    fn the_slot_that_boots_is_found() {
        let on_trial = Some(Trial { slot: B, tries: 1 });
        let failed = Some(Trial { slot: B, tries: 0 });
        for (good, trial, first) in [
            (A, None, "slot a ->"),
            (B, None, "slot b ->"),
            (A, on_trial, "slot b ->"),
            (A, failed, "slot a ->"),
        ] {
            let account = card(&[A, B], Some(good), trial);
            assert_eq!(errors(&account), Vec::<String>::new());
            assert!(line(&account).contains(first) && account.verdicts[0].hypervisor, "{}", line(&account));
        }
        assert_eq!(card(&[A, B], Some(A), None).loads().len(), 2);
    }

    #[test]
    fn one_that_is_not_whole_is_passed_over() {
        let account = card(&[A], Some(A), Some(Trial { slot: B, tries: 1 }));
        assert!(account.verdicts[0].boots && line(&account).contains("slot a ->"), "{}", line(&account));
        let warned = account.faults.iter().filter(|fault| fault.level == Level::Warning);
        assert!(
            warned.into_iter().any(|fault| fault.what.contains("`vambrace/b/kernel`")),
            "{:#?}",
            account.faults
        );
        let account = card(&[], Some(B), None);
        let said = errors(&account).join("\n");
        assert!(said.contains("`vambrace/b/kernel`") && said.contains("neither slot"), "{said}");
        let account = card(&[A], None, None);
        assert!(account.faults.iter().any(|fault| fault.what.contains("a is taken for it")));
    }
}
