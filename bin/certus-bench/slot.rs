//! Which cluster slot a key belongs to: CRC16 of its tag, modulo 16384.

/// How many slots a cluster has.
pub const SLOT_COUNT: usize = 16_384;

/// CRC16-XMODEM (polynomial 0x1021, initial value 0), one entry per leading byte.
const TABLE: [u16; 256] = table();

const fn table() -> [u16; 256] {
    let mut table = [0_u16; 256];
    let mut index = 0_u16;
    while index < 256 {
        let mut remainder = index << 8;
        let mut bit = 0;
        while bit < 8 {
            let carry = remainder & 0x8000 != 0;
            remainder <<= 1;
            if carry {
                remainder ^= 0x1021;
            }
            bit += 1;
        }
        table[index as usize] = remainder;
        index += 1;
    }
    table
}

/// Returns the CRC16-XMODEM of `bytes`.
pub fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, &byte| (crc << 8) ^ TABLE[usize::from((crc >> 8) ^ u16::from(byte))])
}

/// Returns the part of `key` that decides its slot: what stands in the first `{}`, or all of it.
pub fn tag(key: &[u8]) -> &[u8] {
    let Some(open) = key.iter().position(|&byte| byte == b'{') else { return key };
    let inside = &key[open + 1..];
    match inside.iter().position(|&byte| byte == b'}') {
        Some(close) if close > 0 => &inside[..close],
        Some(_) | None => key,
    }
}

/// Returns the slot of `key`, below [`SLOT_COUNT`].
pub fn slot_of(key: &[u8]) -> usize {
    usize::from(crc16(tag(key))) % SLOT_COUNT
}

#[cfg(test)]
mod tests {
    use super::{crc16, slot_of, tag};

    #[test]
    fn known_answers() {
        assert_eq!(crc16(b""), 0);
        assert_eq!(crc16(b"123456789"), 0x31C3);
        assert_eq!(slot_of(b"foo"), 12_182);
        assert_eq!(slot_of(b"somekey"), 11_058);
    }

    #[test]
    fn keys_with_one_tag_share_a_slot() {
        assert_eq!(slot_of(b"{user1}.a"), slot_of(b"b.{user1}"));
        assert_eq!(tag(b"{user1}.a"), b"user1");
        assert_eq!(tag(b"a{}b{c}"), b"a{}b{c}");
        assert_eq!(tag(b"a{b"), b"a{b");
        assert_eq!(tag(b"a{{b}}"), b"{b");
    }
}
