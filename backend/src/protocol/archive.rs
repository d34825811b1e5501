//! The archive that `torch.export.save` writes: a zip file whose `<name>/models/<model>.json` is the program.

use crate::error::Error;
use std::io::{Cursor, Read};
use zip::ZipArchive;
use zip::read::{ArchiveOffset, Config};

/// Whether a file is a zip archive.
pub fn is_archive(bytes: &[u8]) -> bool {
    bytes.starts_with(b"PK")
}

fn invalid(what: impl std::fmt::Display) -> Error {
    Error::Invalid(format!("archive: {what}"))
}

/// The only program of an archive: its path in it, and its JSON.
pub fn program(bytes: &[u8]) -> Result<(String, Vec<u8>), Error> {
    // Nothing precedes the archive; looking for its start would find the one that it holds (sample inputs).
    let config = Config {
        archive_offset: ArchiveOffset::Known(0),
    };
    let mut zip = ZipArchive::with_config(config, Cursor::new(bytes)).map_err(invalid)?;
    let names: Vec<String> = zip
        .file_names()
        .map(|name| name.map(|n| n.into_owned()))
        .collect::<Result<_, _>>()
        .map_err(invalid)?;
    let models: Vec<String> = names.into_iter().filter(|n| is_model(n)).collect();
    let [model] = models.as_slice() else {
        return Err(invalid(if models.is_empty() {
            "no models/*.json, so torch.export.save has not written it".into()
        } else {
            format!("several programs: {}", models.join(", "))
        }));
    };
    let mut file = zip.by_name(model).map_err(invalid)?;
    let mut json = Vec::new();
    file.read_to_end(&mut json)
        .map_err(|e| invalid(format!("{model}: {e}")))?;
    Ok((model.clone(), json))
}

fn is_model(path: &str) -> bool {
    let mut parts = path.rsplit('/');
    let file = parts.next().unwrap_or_default();
    file.ends_with(".json") && parts.next() == Some("models")
}
