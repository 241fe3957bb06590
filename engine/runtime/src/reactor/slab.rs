//! Things by index, with a generation that outlives them.
//!
//! A completion or a reply may arrive for a connection that is gone, and whose place another one
//! took. A [`Key`] therefore carries the place's generation: a key of an earlier occupant finds
//! nothing. Places are reused newest first, which keeps the warm ones warm.

/// Names one occupant of a slab, for ever.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Key {
    /// The place, below [`Key::INDEX_END`].
    pub index: u32,
    /// How often the place was freed before; wraps after four thousand million times.
    pub generation: u32,
}

impl Key {
    /// One past the highest index: 24 bits, so that a key and a kind fit in 64 bits.
    pub const INDEX_END: u32 = 1 << 24;
}

/// A growing table of `T` with reusable places.
#[derive(Debug)]
pub struct Slab<T> {
    places: Vec<Place<T>>,
    free: Vec<u32>,
}

#[derive(Debug)]
struct Place<T> {
    generation: u32,
    occupant: Option<T>,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self { places: Vec::new(), free: Vec::new() }
    }
}

impl<T> Slab<T> {
    /// An empty slab.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts `occupant` into a free place and names it.
    ///
    /// # Panics
    ///
    /// When [`Key::INDEX_END`] places are occupied; owners bound their numbers far below that.
    pub fn insert(&mut self, occupant: T) -> Key {
        if let Some(index) = self.free.pop() {
            let place = &mut self.places[position(index)];
            debug_assert!(place.occupant.is_none());
            place.occupant = Some(occupant);
            return Key { index, generation: place.generation };
        }
        let index = u32::try_from(self.places.len()).expect("a slab has fewer places than 2^24");
        assert!(index < Key::INDEX_END, "a slab has fewer places than 2^24");
        self.places.push(Place { generation: 0, occupant: Some(occupant) });
        Key { index, generation: 0 }
    }

    /// The occupant that `key` names, if it is still there.
    #[must_use]
    pub fn get(&self, key: Key) -> Option<&T> {
        let place = self.places.get(position(key.index))?;
        if place.generation == key.generation { place.occupant.as_ref() } else { None }
    }

    /// The occupant that `key` names, if it is still there.
    pub fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        let place = self.places.get_mut(position(key.index))?;
        if place.generation == key.generation { place.occupant.as_mut() } else { None }
    }

    /// Takes the occupant out; `key` finds nothing from now on.
    pub fn remove(&mut self, key: Key) -> Option<T> {
        let place = self.places.get_mut(position(key.index))?;
        if place.generation != key.generation {
            return None;
        }
        let occupant = place.occupant.take()?;
        place.generation = place.generation.wrapping_add(1);
        self.free.push(key.index);
        Some(occupant)
    }

    /// How many places are occupied.
    #[must_use]
    pub fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    /// Whether no place is occupied.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The keys of all occupants, by place.
    pub fn keys(&self) -> impl Iterator<Item = Key> + '_ {
        self.iter().map(|(key, _)| key)
    }

    /// All occupants with their keys, by place.
    pub fn iter(&self) -> impl Iterator<Item = (Key, &T)> {
        self.places.iter().enumerate().filter_map(|(index, place)| {
            let index = u32::try_from(index).expect("insert bounds the number of places");
            let occupant = place.occupant.as_ref()?;
            Some((Key { index, generation: place.generation }, occupant))
        })
    }
}

/// An index as a position in memory.
fn position(index: u32) -> usize {
    usize::try_from(index).expect("a u32 fits a position")
}

#[cfg(test)]
mod tests {
    use super::Slab;

    #[test]
    fn a_key_of_an_earlier_occupant_finds_nothing() {
        let mut slab = Slab::new();
        let first = slab.insert("first");
        assert_eq!(slab.remove(first), Some("first"));
        let second = slab.insert("second");
        assert_eq!(second.index, first.index, "the place is reused");
        assert_eq!(slab.get(first), None);
        assert_eq!(slab.get_mut(first), None);
        assert_eq!(slab.remove(first), None);
        assert_eq!(slab.get(second), Some(&"second"));
        assert_eq!(slab.len(), 1);
        assert_eq!(slab.iter().collect::<Vec<_>>(), [(second, &"second")]);
    }
}
