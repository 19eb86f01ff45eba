//! What a boot script or a boot configuration asks for, without running it.
//!
//! A script of U-Boot's shell is read command by command; `if` and loops are not followed, so what is said of it holds
//! where its commands run. A value that only the machine knows stays a variable, and nothing is said of what depends on it.

use std::collections::BTreeMap;

/// Commands that load a file: `load INTERFACE DEVICE[:PARTITION] ADDRESS PATH`.
const LOADS: [&str; 5] = ["load", "fatload", "ext4load", "ext2load", "sqfsload"];
/// Commands that start what has been loaded, and leave U-Boot.
const STARTS: [&str; 5] = ["booti", "bootz", "bootm", "bootefi", "go"];
/// Variables that are replaced in one another, at most.
const MOST_REPLACED: usize = 8;
/// Words that are looked at.
const MOST_WORDS: usize = 100_000;

/// What a script loads and starts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) loads: Vec<Load>,
    pub(super) starts: Vec<Start>,
}

/// A file that is loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Load {
    pub(super) path: String,
    /// The partition's number, where it is a number.
    pub(super) partition: Option<u32>,
    pub(super) address: String,
    /// What its size is compared with afterwards.
    pub(super) size: Option<u64>,
}

/// A command that starts something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Start {
    pub(super) command: String,
    pub(super) address: String,
}

/// Reads a script.
pub(super) fn script(text: &str) -> Asked {
    let mut asked = Asked::default();
    let mut variables: BTreeMap<String, String> = BTreeMap::new();
    for command in commands(text) {
        let words: Vec<String> = command.iter().map(|word| replaced(word, &variables)).collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        match words.as_slice() {
            ["setenv" | "env", name, value @ ..] if !value.is_empty() => {
                let (name, value) = match (command.first().map(String::as_str), *name, value) {
                    (Some("env"), "set", [name, value @ ..]) => (*name, value),
                    (Some("env"), ..) => continue,
                    (_, name, value) => (name, value),
                };
                variables.insert(name.to_owned(), value.join(" "));
            }
            [command, _, device, address, path, ..] if LOADS.contains(command) => {
                let partition = device
                    .rsplit_once(':')
                    .and_then(|(_, partition)| u32::from_str_radix(partition, 16).ok());
                asked.loads.push(Load {
                    path: (*path).to_owned(),
                    partition,
                    address: (*address).to_owned(),
                    size: None,
                });
            }
            ["itest", "${filesize}" | "$filesize", "==" | "-eq", size] => {
                if let (Some(last), Ok(size)) =
                    (asked.loads.last_mut(), u64::from_str_radix(size.trim_start_matches("0x"), 16))
                {
                    last.size = Some(size);
                }
            }
            [command, address, ..] if STARTS.contains(command) => {
                asked.starts.push(Start { command: (*command).to_owned(), address: (*address).to_owned() });
            }
            _ => {}
        }
    }
    asked
}

/// The commands of a script as words. Words of the shell that only begin a command are left out.
fn commands(text: &str) -> Vec<Vec<String>> {
    let mut commands = Vec::new();
    let (mut command, mut word): (Vec<String>, Option<String>) = (Vec::new(), None);
    let (mut quote, mut comment) = (None, false);
    let mut count = 0;
    let mut chars = text.chars().peekable();
    loop {
        let c = chars.next();
        let ends = matches!(c, None | Some('\n' | ';' | '&' | '|')) && quote.is_none();
        if ends || (c.is_some_and(char::is_whitespace) && quote.is_none()) {
            if let Some(word) = word.take() {
                let begins = ["if", "then", "else", "elif", "fi", "do", "done", "while", "until", "run"];
                if !(command.is_empty() && begins.contains(&word.as_str())) {
                    command.push(word);
                }
                count += 1;
            }
            if ends && !command.is_empty() {
                commands.push(std::mem::take(&mut command));
            }
            comment = comment && !matches!(c, Some('\n'));
            if c.is_none() || count > MOST_WORDS {
                return commands;
            }
            continue;
        }
        let Some(c) = c else { return commands };
        if comment {
            continue;
        }
        match (c, quote) {
            ('#', None) if word.is_none() => comment = true,
            ('\'' | '"', None) => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (c, Some(open)) if c == open => quote = None,
            ('\\', None) => word.get_or_insert_default().extend(chars.next()),
            (c, _) => word.get_or_insert_default().push(c),
        }
    }
}

/// The word with the variables that are known in place of their names.
fn replaced(word: &str, variables: &BTreeMap<String, String>) -> String {
    let mut word = word.to_owned();
    for _ in 0..MOST_REPLACED {
        let Some((before, rest)) = word.split_once("${") else { return word };
        let Some((name, behind)) = rest.split_once('}') else { return word };
        let Some(value) = variables.get(name) else { return word };
        // What is set to itself would grow for ever.
        if value.len() > 4096 {
            return word;
        }
        word = format!("{before}{value}{behind}");
    }
    word
}

/// An entry of a configuration: what is started, and what goes with it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Choice {
    pub(super) label: String,
    /// What is started.
    pub(super) kernel: Option<String>,
    /// Ramdisks, device trees, modules.
    pub(super) others: Vec<String>,
}

/// The entry of an extlinux.conf that is taken without anybody at the keys (U-Boot, doc/README.pxe): the default one, or the
/// first.
pub(super) fn extlinux(text: &str) -> Option<Choice> {
    let mut choices: Vec<Choice> = Vec::new();
    let mut default = None;
    for line in text.lines().take(MOST_WORDS) {
        let Some((key, value)) = line.trim().split_once(char::is_whitespace) else { continue };
        let value = value.trim().to_owned();
        let key = key.to_ascii_lowercase();
        if key == "default" {
            default = Some(value);
        } else if key == "label" {
            choices.push(Choice { label: value, ..Choice::default() });
        } else if let Some(choice) = choices.last_mut() {
            match key.as_str() {
                "kernel" | "linux" => choice.kernel = Some(value),
                "initrd" | "fdt" | "devicetree" | "fdtoverlays" | "devicetree-overlay" => {
                    choice
                        .others
                        .extend(value.split([' ', ',']).filter(|path| !path.is_empty()).map(str::to_owned));
                }
                _ => {}
            }
        }
    }
    let index = choices.iter().position(|choice| Some(&choice.label) == default.as_ref()).unwrap_or(0);
    (index < choices.len()).then(|| choices.swap_remove(index))
}

/// An entry of the Boot Loader Specification. Its paths count from the root of the file system that it lies on.
pub(super) fn loader_entry(text: &str) -> Choice {
    let mut choice = Choice::default();
    for line in text.lines().take(MOST_WORDS) {
        let Some((key, value)) = line.trim().split_once(char::is_whitespace) else { continue };
        let value = value.trim();
        let path = || format!("/{}", value.trim_start_matches(['/', '\\']));
        match key {
            "title" => choice.label = value.to_owned(),
            "linux" | "efi" | "uki" => choice.kernel = Some(path()),
            "initrd" | "devicetree" => choice.others.push(path()),
            _ => {}
        }
    }
    choice
}

/// What a hypervisor's configuration under UEFI names, of this project's form or of Xen's: `key=value`, in sections or not,
/// the file first in a value.
pub(super) fn hypervisor_config(text: &str) -> Option<Choice> {
    let mut sections: BTreeMap<String, Choice> = BTreeMap::new();
    let mut section = String::new();
    let mut default = None;
    for line in text.lines().map(str::trim).filter(|line| !line.starts_with('#')).take(MOST_WORDS) {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            section = name.to_owned();
        } else if let Some((key, value)) = line.split_once('=') {
            let file = value.split_whitespace().next().map(str::to_owned);
            let choice = sections.entry(section.clone()).or_default();
            match (key.trim(), file) {
                ("default", file) if section == "global" => default = file,
                ("kernel", Some(file)) => choice.kernel = Some(file),
                ("ramdisk" | "dtb" | "xsm", Some(file)) => choice.others.push(file),
                _ => {}
            }
        }
    }
    let name = default.unwrap_or_default();
    let choice =
        sections.remove(&name).or_else(|| sections.into_values().find(|choice| choice.kernel.is_some()))?;
    choice.kernel.is_some().then_some(Choice { label: name, ..choice })
}

/// The entry of a grub.cfg that is first: GRUB's language is a shell's, and only its commands that load are looked at.
pub(super) fn grub(text: &str) -> Option<Choice> {
    let mut choice = Choice::default();
    for command in commands(&text.replace(['{', '}'], ";")) {
        let words: Vec<&str> = command.iter().map(String::as_str).collect();
        match words.as_slice() {
            ["menuentry" | "submenu", label, ..] if choice.kernel.is_none() => {
                choice.label = (*label).to_owned()
            }
            ["menuentry" | "submenu", ..] => break,
            [
                "linux" | "linuxefi" | "multiboot" | "multiboot2" | "xen_hypervisor" | "chainloader",
                path,
                ..,
            ] if choice.kernel.is_none() => {
                choice.kernel = Some((*path).to_owned());
            }
            ["initrd" | "initrdefi" | "module" | "module2" | "xen_module" | "devicetree", rest @ ..] => {
                choice
                    .others
                    .extend(rest.iter().find(|word| !word.starts_with("--")).map(|path| (*path).to_owned()));
            }
            _ => {}
        }
    }
    choice.kernel.is_some().then_some(choice)
}

/// Whether a path can be looked for: it has no variable in it.
pub(super) fn is_plain(path: &str) -> bool {
    !path.contains('$') && !path.contains('(') && !path.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_script_of_ours_is_understood() {
        let text = "# a comment; load x\nif load ${devtype} ${devnum}:${distro_bootpart} 0x40600000 v/hyp; then true; else echo \
                    \"cannot; load\"; exit 1; fi\nif itest ${filesize} == 1234; then true; fi\nload mmc 0:2 ${kernel_addr_r} \
                    'a b'\nsetenv at 0x80\nbooti 0x40600000 - ${at}\n";
        let asked = script(text);
        let first =
            Load { path: "v/hyp".into(), partition: None, address: "0x40600000".into(), size: Some(0x1234) };
        assert_eq!(asked.loads[0], first);
        assert_eq!((asked.loads[1].path.as_str(), asked.loads[1].partition), ("a b", Some(2)));
        assert_eq!(asked.loads.len(), 2);
        assert_eq!(asked.starts, [Start { command: "booti".into(), address: "0x40600000".into() }]);
    }

    #[test]
    fn variables_are_replaced_where_they_are_known() {
        let asked = script(
            "setenv d boot\nsetenv f ${d}/zImage; load mmc 0:1 ${a} ${f} && bootz ${a}\nload mmc 0 1 ${board}.dtb",
        );
        assert_eq!(
            (asked.loads[0].path.as_str(), asked.loads[1].path.as_str()),
            ("boot/zImage", "${board}.dtb")
        );
        assert!(is_plain("boot/zImage") && !is_plain("${board}.dtb"));
        script("setenv a ${a}${a}x\nsetenv a ${a}${a}x\nsetenv a ${a}${a}x\nload mmc 0 ${a} ${a}");
    }

    #[test]
    fn configurations_give_what_is_taken_by_default() {
        let text = "default b\nlabel a\n kernel /x\nlabel b\n  LINUX /vmlinuz\n  initrd /initrd\n  fdt /d.dtb\n append a\n";
        let choice = extlinux(text).unwrap();
        assert_eq!(
            (choice.kernel.as_deref(), choice.others),
            (Some("/vmlinuz"), vec!["/initrd".into(), "/d.dtb".into()])
        );
        let ours =
            hypervisor_config("# x\noptions=a=b\nkernel=kernel console=hvc0\nramdisk=ramdisk\n").unwrap();
        assert_eq!((ours.kernel.as_deref(), ours.others), (Some("kernel"), vec!["ramdisk".into()]));
        let xen = hypervisor_config("[global]\ndefault=d\n[e]\nkernel=no\n[d]\nkernel=yes\n").unwrap();
        assert_eq!(xen.kernel.as_deref(), Some("yes"));
        let menu = grub("menuentry 'A (x)' --class y {\n  linux /boot/vmlinuz root=/dev/x\n initrd /boot/initrd\n}\nmenuentry B { linux /no }\n").unwrap();
        assert_eq!((menu.label.as_str(), menu.kernel.as_deref()), ("A (x)", Some("/boot/vmlinuz")));
        assert_eq!(menu.others, ["/boot/initrd"]);
        assert!(extlinux("").is_none() && grub("").is_none() && hypervisor_config("").is_none());
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in "(setenv|load|itest|booti|label|kernel|=|\\$\\{a\\}|a|'|\"|\\\\|;|#|\\{|\\[|\\]| |\n|é){0,60}") {
            let _ = (script(&text), extlinux(&text), hypervisor_config(&text), grub(&text), loader_entry(&text));
        }
    }
}
