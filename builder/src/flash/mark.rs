//! What stands in the first block of a medium while an image is being written to it.
//!
//! It takes the place of the old partition table, so no firmware and no system sees one, and it names the image: flashing
//! the same image again knows that it goes on with something. It needs no file on the machine that could be lost, or
//! be of another medium.

use crate::cache::hex;

/// Bytes of the mark: the smallest block that a medium has, which is written whole or not at all.
pub(super) const SIZE: usize = 512;

const TITLE: &str = "Vambrace flash, format 1\n";

/// The mark of the image with this identity.
pub(super) fn mark(identity: Option<[u8; 32]>) -> [u8; SIZE] {
    let name = identity.map_or_else(|| "an image without a name".to_owned(), |identity| hex(&identity));
    let text = format!(
        "{TITLE}{name}\nThis medium was being written, and that was interrupted: nothing on it can be relied upon.\n\
         Run the same `vambrace flash` again: it goes on with what is missing.\n"
    );
    let mut block = [0; SIZE];
    block.iter_mut().zip(text.bytes()).for_each(|(to, from)| *to = from);
    block
}

/// Whether the medium that begins with `block` was being written with this very image.
pub(super) fn is_of(block: &[u8], identity: Option<[u8; 32]>) -> bool {
    identity.is_some() && block.get(..SIZE) == Some(&mark(identity))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_of_one_image_and_is_no_table() {
        let block = mark(Some([7; 32]));
        assert_eq!(block[510..], [0, 0]);
        assert!(block.iter().filter(|&&byte| byte != 0).all(u8::is_ascii));
        assert!(
            is_of(&block, Some([7; 32])) && !is_of(&block, Some([8; 32])) && !is_of(&[0; 512], Some([7; 32]))
        );
        assert!(!is_of(&mark(None), None), "an image that cannot be told from others is written anew");
    }
}
