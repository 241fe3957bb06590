//! Patterns of names and keys: `*`, `?`, `[a-c]`, `[^a]` and `\` as Redis has them.

/// What a letter matches.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Letters {
    /// Itself, in either case.
    EitherCase,
    /// Itself.
    Exact,
}

impl Letters {
    fn fold(self, byte: u8) -> u8 {
        match self {
            Self::EitherCase => byte.to_ascii_lowercase(),
            Self::Exact => byte,
        }
    }
}

/// Whether `text` matches `pattern`, letters in either case: for names of commands and settings.
#[must_use]
pub(super) fn matches(pattern: &[u8], text: &[u8]) -> bool {
    matches_folded(pattern, text, Letters::EitherCase)
}

/// Whether `text` matches `pattern`, each letter in its own case: for keys.
#[must_use]
pub fn matches_exactly(pattern: &[u8], text: &[u8]) -> bool {
    matches_folded(pattern, text, Letters::Exact)
}

/// After a mismatch only the last `*` is tried again, one character further: an earlier one could
/// not do better. So the time is bounded by the product of the lengths, whatever the pattern.
fn matches_folded(pattern: &[u8], text: &[u8], letters: Letters) -> bool {
    let (mut at, mut position) = (0, 0);
    // After the last `*`: where the pattern goes on, and up to where the star reaches.
    let mut star: Option<(usize, usize)> = None;
    while position < text.len() {
        if pattern.get(at) == Some(&b'*') {
            at += 1;
            star = Some((at, position));
            continue;
        }
        match match_one(&pattern[at..], text[position], letters) {
            Some(used) => {
                at += used;
                position += 1;
            }
            None => match star {
                Some((after, reach)) => {
                    star = Some((after, reach + 1));
                    (at, position) = (after, reach + 1);
                }
                None => return false,
            },
        }
    }
    pattern[at..].iter().all(|byte| *byte == b'*')
}

/// Matches `byte` with the first element of `pattern`, which is no `*`, and returns that element's
/// length.
fn match_one(pattern: &[u8], byte: u8, letters: Letters) -> Option<usize> {
    let same = |other: &u8| letters.fold(*other) == letters.fold(byte);
    match pattern {
        [] => None,
        [b'?', ..] => Some(1),
        [b'[', rest @ ..] => match_class(rest, byte, letters).map(|used| used + 1),
        [b'\\', escaped, ..] => same(escaped).then_some(2),
        [plain, ..] => same(plain).then_some(1),
    }
}

/// Matches `byte` with the class whose inside and closing bracket `rest` begins with. A class that
/// is not closed ends with the pattern.
fn match_class(rest: &[u8], byte: u8, letters: Letters) -> Option<usize> {
    let byte = letters.fold(byte);
    let negated = rest.first() == Some(&b'^');
    let mut at = usize::from(negated);
    let mut found = false;
    let used = loop {
        match &rest[at..] {
            [] => break at,
            [b']', ..] => break at + 1,
            [b'\\', escaped, ..] => {
                found |= letters.fold(*escaped) == byte;
                at += 2;
            }
            [first, b'-', last, ..] => {
                let (first, last) = (letters.fold(*first), letters.fold(*last));
                found |= (first.min(last)..=first.max(last)).contains(&byte);
                at += 3;
            }
            [plain, ..] => {
                found |= letters.fold(*plain) == byte;
                at += 1;
            }
        }
    };
    (found != negated).then_some(used)
}

#[cfg(test)]
mod tests {
    use super::{matches, matches_exactly};

    #[test]
    fn patterns_match_as_in_redis() {
        let matching = [
            ("", ""),
            ("*", ""),
            ("*", "anything"),
            ("save", "save"),
            ("SAVE", "save"),
            ("s?ve", "save"),
            ("max*", "maxmemory"),
            ("*memory*", "maxmemory-policy"),
            ("a*b*c", "axxbxxbxc"),
            ("[a-c]x", "Bx"),
            ("[c-a]x", "bx"),
            ("[^a]x", "bx"),
            ("[\\]]", "]"),
            ("\\*", "*"),
            ("[ab", "a"),
            ("**a**", "a"),
        ];
        for (pattern, text) in matching {
            assert!(matches(pattern.as_bytes(), text.as_bytes()), "{pattern} {text}");
        }
        let differing = [
            ("", "a"),
            ("a", ""),
            ("?", ""),
            ("save", "saves"),
            ("saves", "save"),
            ("a*b", "axc"),
            ("[a-c]", "d"),
            ("[^a]", "a"),
            ("\\*", "x"),
            ("[ab", "c"),
            ("[", "["),
        ];
        for (pattern, text) in differing {
            assert!(!matches(pattern.as_bytes(), text.as_bytes()), "{pattern} {text}");
        }
    }

    #[test]
    fn keys_match_letter_by_letter() {
        for (pattern, text, is_match) in
            [("Key*", "Key1", true), ("key*", "Key1", false), ("[a-c]", "B", false)]
        {
            assert_eq!(matches_exactly(pattern.as_bytes(), text.as_bytes()), is_match, "{text}");
        }
    }

    #[test]
    fn a_pattern_of_many_stars_ends_soon() {
        let pattern = "*a".repeat(200);
        let text = format!("{}b", "a".repeat(5_000));
        assert!(!matches(pattern.as_bytes(), text.as_bytes()));
    }
}
