//! A command's arguments in one allocation.
//!
//! A request is a handful of byte strings. Keeping each in a vector of its own costs an allocation
//! per argument on the hottest path; here all bytes stand in one buffer, one after the other, and
//! a small table says where each argument ends. The table needs no allocation up to
//! [`ENDS_INLINE`] arguments, which covers nearly every command.

use std::fmt;

/// Arguments whose ends are kept without an allocation.
pub const ENDS_INLINE: usize = 8;

/// A command's name and arguments, in order. May be empty.
///
/// All bytes together are below 4 GiB; the request parser's limits keep them far below that.
#[derive(Clone, Default)]
pub struct Arguments {
    bytes: Vec<u8>,
    ends: Ends,
}

/// Where each argument ends in the buffer; it begins where the one before ends.
#[derive(Clone)]
enum Ends {
    Inline { ends: [u32; ENDS_INLINE], count: u8 },
    Heap(Vec<u32>),
}

impl Default for Ends {
    fn default() -> Self {
        Self::Inline { ends: [0; ENDS_INLINE], count: 0 }
    }
}

impl Ends {
    fn with_capacity(count: usize) -> Self {
        if count <= ENDS_INLINE { Self::default() } else { Self::Heap(Vec::with_capacity(count)) }
    }

    fn as_slice(&self) -> &[u32] {
        match self {
            Self::Inline { ends, count } => &ends[..usize::from(*count)],
            Self::Heap(ends) => ends,
        }
    }

    fn push(&mut self, end: u32) {
        match self {
            Self::Inline { ends, count } => {
                let index = usize::from(*count);
                if index < ENDS_INLINE {
                    ends[index] = end;
                    *count += 1;
                } else {
                    let mut heap = Vec::with_capacity(ENDS_INLINE * 2);
                    heap.extend_from_slice(ends);
                    heap.push(end);
                    *self = Self::Heap(heap);
                }
            }
            Self::Heap(ends) => ends.push(end),
        }
    }
}

impl Arguments {
    /// No arguments yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// No arguments yet, with room for `count` of them that are `size` bytes together.
    #[must_use]
    pub fn with_capacity(count: usize, size: usize) -> Self {
        Self { bytes: Vec::with_capacity(size), ends: Ends::with_capacity(count) }
    }

    /// The given arguments, in order.
    #[must_use]
    pub fn from_slices<T: AsRef<[u8]>>(slices: &[T]) -> Self {
        let size = slices.iter().map(|slice| slice.as_ref().len()).sum();
        let mut arguments = Self::with_capacity(slices.len(), size);
        for slice in slices {
            arguments.push(slice.as_ref());
        }
        arguments
    }

    /// Appends one argument.
    ///
    /// # Panics
    ///
    /// When all arguments together reach 4 GiB.
    pub fn push(&mut self, argument: &[u8]) {
        self.bytes.extend_from_slice(argument);
        let end = u32::try_from(self.bytes.len()).expect("a request is limited to less than 4 GiB");
        self.ends.push(end);
    }

    /// How many arguments there are, the command's name included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.as_slice().len()
    }

    /// Whether there is not even a command's name.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The argument at `index`; the command's name stands at 0.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<&[u8]> {
        let ends = self.ends.as_slice();
        let end = *ends.get(index)?;
        let begin = if index == 0 { 0 } else { ends[index - 1] };
        Some(&self.bytes[position(begin)..position(end)])
    }

    /// All arguments in order, the command's name first.
    #[must_use]
    pub fn iter(&self) -> Iter<'_> {
        Iter { bytes: &self.bytes, ends: self.ends.as_slice().iter(), begin: 0 }
    }

    /// All arguments in order without the first `count`; none when there are not so many.
    #[must_use]
    pub fn iter_from(&self, count: usize) -> Iter<'_> {
        let ends = self.ends.as_slice();
        let count = count.min(ends.len());
        let begin = if count == 0 { 0 } else { ends[count - 1] };
        Iter { bytes: &self.bytes, ends: ends[count..].iter(), begin }
    }

    /// Bytes of all arguments together.
    #[must_use]
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    /// The arguments as vectors of their own.
    #[must_use]
    pub fn to_vectors(&self) -> Vec<Vec<u8>> {
        self.iter().map(<[u8]>::to_vec).collect()
    }
}

/// An offset as a position in memory.
fn position(offset: u32) -> usize {
    usize::try_from(offset).expect("a u32 fits a position")
}

/// What [`Arguments::iter`] gives.
#[derive(Clone, Debug)]
pub struct Iter<'a> {
    bytes: &'a [u8],
    ends: std::slice::Iter<'a, u32>,
    begin: u32,
}

impl<'a> Iterator for Iter<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let end = *self.ends.next()?;
        let argument = &self.bytes[position(self.begin)..position(end)];
        self.begin = end;
        Some(argument)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.ends.size_hint()
    }
}

impl ExactSizeIterator for Iter<'_> {}

impl<'a> IntoIterator for &'a Arguments {
    type Item = &'a [u8];
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

impl<T: AsRef<[u8]>> FromIterator<T> for Arguments {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Self {
        let mut arguments = Self::new();
        for item in items {
            arguments.push(item.as_ref());
        }
        arguments
    }
}

impl std::ops::Index<usize> for Arguments {
    type Output = [u8];

    fn index(&self, index: usize) -> &[u8] {
        match self.get(index) {
            Some(argument) => argument,
            None => panic!("argument {index} of a command with {}", self.len()),
        }
    }
}

impl PartialEq for Arguments {
    fn eq(&self, other: &Self) -> bool {
        // Equal ends and equal bytes are equal arguments, however the ends are kept.
        self.ends.as_slice() == other.ends.as_slice() && self.bytes == other.bytes
    }
}

impl Eq for Arguments {}

impl fmt::Debug for Arguments {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_list()
            .entries(self.iter().map(|bytes| bytes.escape_ascii().to_string()))
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::{Arguments, ENDS_INLINE};

    #[test]
    fn arguments_come_back_as_they_were_pushed_whatever_their_count() {
        for count in 0..ENDS_INLINE * 3 {
            let pushed: Vec<Vec<u8>> = (0..count)
                .map(|index| vec![b'a' + u8::try_from(index).unwrap(); index % 5])
                .collect();
            let mut arguments = Arguments::new();
            for argument in &pushed {
                arguments.push(argument);
            }
            assert_eq!(arguments.len(), count);
            assert_eq!(arguments.is_empty(), count == 0);
            assert_eq!(arguments.to_vectors(), pushed);
            assert_eq!(arguments.iter().len(), count);
            for (index, argument) in pushed.iter().enumerate() {
                assert_eq!(arguments.get(index), Some(argument.as_slice()));
                assert_eq!(&arguments[index], argument.as_slice());
            }
            assert_eq!(arguments.get(count), None);
            for skipped in 0..=count + 1 {
                let rest: Vec<&[u8]> = arguments.iter_from(skipped).collect();
                assert_eq!(
                    rest,
                    pushed.iter().skip(skipped).map(Vec::as_slice).collect::<Vec<_>>()
                );
            }
        }
    }

    #[test]
    fn equality_sees_where_arguments_end_and_not_how_the_ends_are_kept() {
        assert_ne!(Arguments::from_slices(&["ab", "c"]), Arguments::from_slices(&["a", "bc"]));
        let mut grown = Arguments::with_capacity(100, 0);
        grown.push(b"GET");
        grown.push(b"key");
        assert_eq!(grown, Arguments::from_slices(&["GET", "key"]));
        assert_eq!(grown, ["GET", "key"].iter().collect::<Arguments>());
        assert_eq!(format!("{grown:?}"), r#"["GET", "key"]"#);
    }

    #[test]
    #[should_panic(expected = "argument 2 of a command with 1")]
    fn indexing_past_the_end_names_the_argument() {
        let arguments = Arguments::from_slices(&["GET"]);
        assert_eq!(&arguments[2], b"");
    }
}
