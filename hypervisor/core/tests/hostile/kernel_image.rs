//! Kernel images: whole, cut off, and of kinds that only look like one.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use vambrace_core::image::{KernelImage, Packing};

use crate::few;

/// Bytes with what marks a kind of kernel at its place, and arbitrary fields around it.
fn kernel() -> impl Strategy<Value = Vec<u8>> {
    const MARKS: &[(usize, &[u8])] = &[
        (56, b"ARM\x64"),
        (0x24, &0x016f_2818_u32.to_le_bytes()),
        (0x24, &0x016f_2818_u32.to_be_bytes()),
        (0, &[0x1f, 0x8b, 8]),
        (0, &0x2705_1956_u32.to_be_bytes()),
        (0, b"MZ\0\0zimg"),
        (24, b"gzip"),
        (0x34, &0x4545_4545_u32.to_le_bytes()),
    ];
    let field = (0_usize..32, prop_oneof![Just(0), Just(u64::MAX), Just(1 << 31), any::<u64>(), 0_u64..4096]);
    // Most fields of real headers are 0 or small.
    let bytes =
        prop_oneof![vec(any::<u8>(), 0..1500), (0_usize..1500).prop_map(|length| std::vec![0; length])];
    let plain = (bytes, vec(field, 0..6), vec(select(MARKS), 0..4)).prop_map(|(mut bytes, fields, marks)| {
        let mut put = |at: usize, data: &[u8]| {
            if let Some(place) = bytes.get_mut(at..at + data.len()) {
                place.copy_from_slice(data);
            }
        };
        fields.iter().for_each(|(at, value)| put(at * 4, &value.to_le_bytes()));
        marks.iter().for_each(|(at, mark)| put(*at, mark));
        bytes
    });
    (plain, any::<bool>(), 0_usize..40).prop_map(|(plain, packed, cut)| {
        if !packed {
            return plain;
        }
        // A gzip stream whose checksum is wrong and whose end may be missing.
        let mut bytes = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0];
        bytes.extend(miniz_oxide::deflate::compress_to_vec(&plain, 6));
        bytes.extend(u64::to_le_bytes((plain.len() as u64) << 32));
        bytes.truncate(bytes.len().saturating_sub(cut.saturating_sub(20)));
        bytes
    })
}

/// Reads from `bytes`, and fails the test where it is asked for what is not there.
fn reader(bytes: &[u8]) -> impl FnMut(u64, &mut [u8]) -> bool + '_ {
    |offset, buffer| {
        let start = usize::try_from(offset).expect("an offset past the end");
        buffer.copy_from_slice(
            bytes.get(start..).and_then(|rest| rest.get(..buffer.len())).expect("past the end"),
        );
        true
    }
}

proptest! {
    #![proptest_config(few(96))]

    #[test]
    fn kernels(bytes in kernel()) {
        let Ok(image) = KernelImage::inspect(bytes.len() as u64, reader(&bytes)) else { return Ok(()) };
        let packed = matches!(image.packing, Packing::Gzip { .. });
        prop_assert!(packed || image.memory_size >= image.file_size);
        const ROOM: u64 = 1 << 16;
        let mut written = 0;
        let _ = image.unpack(ROOM, reader(&bytes), |offset, chunk| {
            assert_eq!(offset, written, "out of order");
            written += chunk.len() as u64;
            true
        });
        prop_assert!(written <= ROOM);
    }
}
