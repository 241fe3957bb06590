//! A sorted map for few keys: nearly every entity holds one.

use std::collections::{BTreeMap, btree_map};

use plog::memory::block_bytes;

/// Up to this many keys stand in a sorted vector; a tree's first node alone is as large.
const FEW_MAX: usize = 16;

/// Keys in ascending byte order, each with a `V`.
///
/// Which of the two forms it has follows from its history and is visible in nothing but speed.
#[derive(Clone, Debug)]
pub(super) enum KeyMap<V> {
    /// Sorted by key, without duplicates.
    Few(Vec<(Box<[u8]>, V)>),
    /// Once grown beyond [`FEW_MAX`].
    Many(BTreeMap<Box<[u8]>, V>),
}

impl<V> Default for KeyMap<V> {
    fn default() -> Self {
        Self::Few(Vec::new())
    }
}

impl<V> KeyMap<V> {
    /// What `key` maps to.
    pub(super) fn get(&self, key: &[u8]) -> Option<&V> {
        match self {
            Self::Few(pairs) => position(pairs, key).ok().map(|index| &pairs[index].1),
            Self::Many(tree) => tree.get(key),
        }
    }

    /// What `key` maps to, to be changed.
    pub(super) fn get_mut(&mut self, key: &[u8]) -> Option<&mut V> {
        match self {
            Self::Few(pairs) => position(pairs, key).ok().map(|index| &mut pairs[index].1),
            Self::Many(tree) => tree.get_mut(key),
        }
    }

    /// Maps `key` to `value` and returns what it mapped to before.
    pub(super) fn insert(&mut self, key: &[u8], value: V) -> Option<V> {
        match self {
            Self::Few(pairs) => match position(pairs, key) {
                Ok(index) => Some(core::mem::replace(&mut pairs[index].1, value)),
                Err(index) => {
                    if pairs.is_empty() {
                        pairs.reserve_exact(1);
                    }
                    pairs.insert(index, (key.into(), value));
                    if pairs.len() > FEW_MAX {
                        *self = Self::Many(core::mem::take(pairs).into_iter().collect());
                    }
                    None
                }
            },
            // A key that is there keeps its allocation.
            Self::Many(tree) => match tree.get_mut(key) {
                Some(present) => Some(core::mem::replace(present, value)),
                None => tree.insert(key.into(), value),
            },
        }
    }

    /// Removes `key` and returns what it mapped to.
    pub(super) fn remove(&mut self, key: &[u8]) -> Option<V> {
        match self {
            Self::Few(pairs) => position(pairs, key).ok().map(|index| pairs.remove(index).1),
            Self::Many(tree) => tree.remove(key),
        }
    }

    /// Number of keys.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Few(pairs) => pairs.len(),
            Self::Many(tree) => tree.len(),
        }
    }

    /// Whether there is no key.
    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of the blocks that hold the pairs and, of few, the keys. Of many, counting them would
    /// take too long: `None`.
    pub(super) fn block_bytes(&self) -> Option<usize> {
        let Self::Few(pairs) = self else { return None };
        let table = block_bytes(pairs.capacity() * size_of::<(Box<[u8]>, V)>());
        Some(table + pairs.iter().map(|(key, _)| block_bytes(key.len())).sum::<usize>())
    }

    /// All keys with their values, ascending.
    pub(super) fn iter(&self) -> Iter<'_, V> {
        match self {
            Self::Few(pairs) => Iter::Few(pairs.iter()),
            Self::Many(tree) => Iter::Many(tree.iter()),
        }
    }
}

/// Where `key` is, or where it belongs.
fn position<V>(pairs: &[(Box<[u8]>, V)], key: &[u8]) -> Result<usize, usize> {
    pairs.binary_search_by(|(present, _)| present.as_ref().cmp(key))
}

/// All keys of a [`KeyMap`] with their values, ascending.
#[derive(Debug)]
pub(super) enum Iter<'a, V> {
    /// Of the vector.
    Few(core::slice::Iter<'a, (Box<[u8]>, V)>),
    /// Of the tree.
    Many(btree_map::Iter<'a, Box<[u8]>, V>),
}

impl<'a, V> Iterator for Iter<'a, V> {
    type Item = (&'a [u8], &'a V);

    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Self::Few(pairs) => pairs.next().map(|(key, value)| (key.as_ref(), value)),
            Self::Many(tree) => tree.next().map(|(key, value)| (key.as_ref(), value)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{FEW_MAX, KeyMap};

    #[test]
    fn it_behaves_as_a_tree_while_it_grows_and_shrinks() {
        let mut map = KeyMap::default();
        let mut model = BTreeMap::new();
        let mut step = |map: &mut KeyMap<u32>, key: u32, remove: u32| {
            let name = (key * 7 % 41).to_string().into_bytes();
            if remove == 0 {
                assert_eq!(map.insert(&name, key), model.insert(name.clone(), key));
            } else {
                assert_eq!(map.remove(&name), model.remove(&name));
            }
            assert_eq!(map.get(&name), model.get(&name));
            assert_eq!(map.get_mut(&name), model.get_mut(&name));
            assert_eq!(map.len(), model.len());
            assert_eq!(map.is_empty(), model.is_empty());
            assert!(map.iter().eq(model.iter().map(|(key, value)| (key.as_slice(), value))));
        };
        for key in 0..200 {
            step(&mut map, key, key % 3 / 2);
        }
        assert!(matches!(map, KeyMap::Many(_)), "more than {FEW_MAX} keys make a tree");
        for key in 0..200 {
            step(&mut map, key, 1);
        }
        assert!(map.is_empty());
    }
}
