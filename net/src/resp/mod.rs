//! Client to replica: the Redis serialization protocol, versions 2 and 3, and the key's slot.

pub mod arguments;
pub mod request_parser;
pub mod slot;
pub mod stable_hash;
pub mod value;
mod value_decoder;
