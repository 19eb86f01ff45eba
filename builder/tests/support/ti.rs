//! What TI's boot ROMs and U-Boot's first stage load, for unit tests too: by U-Boot's tools/omapimage.h and include/image.h.

/// An MLO of `code` bytes of code for `address`.
pub(crate) fn mlo(code: u32, address: u32) -> Vec<u8> {
    let mut mlo = vec![0; 512];
    (mlo[0], mlo[4]) = (0x40, 0x0c);
    mlo[20..30].copy_from_slice(b"CHSETTINGS");
    mlo[32..64].fill(0xff);
    mlo[64..68].copy_from_slice(&0xc0c0_c0c1_u32.to_le_bytes());
    mlo[69] = 1;
    mlo.extend((code + 8).to_le_bytes());
    mlo.extend(address.to_le_bytes());
    mlo.extend((0..code).map(|n| n as u8));
    mlo
}

/// A U-Boot of `size` bytes in a legacy image, for a CPU of U-Boot's number `cpu`: 2 for ARM, 22 for AArch64.
pub(crate) fn uboot(size: u32, cpu: u8) -> Vec<u8> {
    let sum = |data: &[u8]| {
        let mut crc = flate2::Crc::new();
        crc.update(data);
        crc.sum().to_be_bytes()
    };
    let data: Vec<u8> = (0..size).map(|n| (n / 7) as u8).collect();
    let mut image = vec![0; 64];
    image[..4].copy_from_slice(&[0x27, 0x05, 0x19, 0x56]);
    image[12..16].copy_from_slice(&size.to_be_bytes());
    image[24..28].copy_from_slice(&sum(&data));
    // U-Boot's own number, the CPU's, and that of firmware.
    image[28..31].copy_from_slice(&[17, cpu, 5]);
    image[32..38].copy_from_slice(b"U-Boot");
    let of_header = sum(&image);
    image[4..8].copy_from_slice(&of_header);
    image.extend(data);
    image
}
