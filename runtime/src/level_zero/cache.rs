//! Compiled modules on disk, by device, driver, flags and source, in the [cache's directory](crate::cache::directory).

use crate::cache;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;

/// Where a module's binary is kept; none if there is no place.
pub fn place(key: &impl Hash) -> Option<PathBuf> {
    let folder = cache::directory()?;
    let mut hashes = [DefaultHasher::new(), DefaultHasher::new()];
    1u8.hash(&mut hashes[1]);
    hashes.iter_mut().for_each(|h| key.hash(h));
    let [a, b] = hashes.map(|h| h.finish());
    Some(folder.join("gpu").join(format!("{a:016x}{b:016x}")))
}
