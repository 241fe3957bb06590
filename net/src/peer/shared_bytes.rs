//! How reference-counted bytes travel: as a plain byte vector, without a copy on the way out.

use std::rc::Rc;

use rkyv::rancor::Fallible;
use rkyv::ser::{Allocator, Writer};
use rkyv::vec::{ArchivedVec, VecResolver};
use rkyv::with::{ArchiveWith, DeserializeWith, SerializeWith};
use rkyv::{Place, with};

/// Archives an `Rc<[u8]>` as a vector of bytes.
#[derive(Debug)]
pub struct SharedBytes;

impl ArchiveWith<Rc<[u8]>> for SharedBytes {
    type Archived = ArchivedVec<u8>;
    type Resolver = VecResolver;

    fn resolve_with(field: &Rc<[u8]>, resolver: VecResolver, out: Place<Self::Archived>) {
        ArchivedVec::resolve_from_slice(field, resolver, out);
    }
}

impl<S: Fallible + Allocator + Writer + ?Sized> SerializeWith<Rc<[u8]>, S> for SharedBytes {
    fn serialize_with(field: &Rc<[u8]>, serializer: &mut S) -> Result<VecResolver, S::Error> {
        ArchivedVec::serialize_from_slice(field, serializer)
    }
}

impl<D: Fallible + ?Sized> DeserializeWith<ArchivedVec<u8>, Rc<[u8]>, D> for SharedBytes {
    fn deserialize_with(field: &ArchivedVec<u8>, _: &mut D) -> Result<Rc<[u8]>, D::Error> {
        Ok(Rc::from(field.as_slice()))
    }
}

/// The same for an optional value.
pub type OptionalSharedBytes = with::Map<SharedBytes>;
