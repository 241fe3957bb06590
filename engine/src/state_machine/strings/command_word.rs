//! A command's name as one number, so that finding a command is a comparison of integers.

/// A name of up to 15 bytes in lower case, with its length: equal exactly when the names are equal
/// but for the case of ASCII letters.
///
/// Every longer name is the same word, [`CommandWord::TOO_LONG`], which no command has.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct CommandWord(u128);

impl CommandWord {
    /// The longest name that has a word of its own, in bytes.
    pub const NAME_SIZE_MAX: usize = 15;

    /// Stands for every name longer than [`Self::NAME_SIZE_MAX`].
    pub const TOO_LONG: Self = Self(u128::MAX);

    /// The word of `name`.
    #[must_use]
    pub const fn of(name: &[u8]) -> Self {
        if name.len() > Self::NAME_SIZE_MAX {
            return Self::TOO_LONG;
        }
        // The length keeps a name that ends in zero bytes apart from the one without them.
        let mut word = name.len() as u128;
        let mut index = 0;
        while index < name.len() {
            word = word << 8 | name[index].to_ascii_lowercase() as u128;
            index += 1;
        }
        Self(word)
    }
}

#[cfg(test)]
mod tests {
    use super::CommandWord;

    #[test]
    fn words_are_equal_exactly_when_the_names_are_but_for_case() {
        let names: [&[u8]; 8] =
            [b"", b"\0", b"get", b"get\0", b"\0get", b"set", b"incrby", b"123456789012345"];
        for (i, left) in names.iter().enumerate() {
            for (j, right) in names.iter().enumerate() {
                assert_eq!(CommandWord::of(left) == CommandWord::of(right), i == j);
            }
            assert_eq!(CommandWord::of(left), CommandWord::of(&left.to_ascii_uppercase()));
            assert_ne!(CommandWord::of(left), CommandWord::TOO_LONG);
        }
        assert_eq!(CommandWord::of(b"1234567890123456"), CommandWord::TOO_LONG);
        // '@' and '`' are what 'A' and 'a' would be without the check for letters.
        assert_ne!(CommandWord::of(b"@"), CommandWord::of(b"`"));
    }
}
