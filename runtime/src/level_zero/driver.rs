//! Drivers and the devices they have.

use super::context::Device;
use super::error::{Error, NoDevice, check, name};
use level_zero_sys::*;
use std::ptr::null_mut;
use std::sync::OnceLock;

/// The devices of this process, opened once.
struct Found {
    process: u32,
    devices: Result<Vec<Device>, Error>,
}

/// Which device is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// Its number among [`devices`].
    pub index: usize,
}

/// All GPUs: those with matrix instructions and the most memory first.
pub fn devices() -> Result<&'static [Device], Error> {
    static FOUND: OnceLock<Found> = OnceLock::new();
    let found = FOUND.get_or_init(|| Found {
        process: std::process::id(),
        devices: find(),
    });
    if found.process != std::process::id() {
        return Err(Error::Forked);
    }
    found.devices.as_deref().map_err(Clone::clone)
}

/// The device asked for.
pub fn open(selection: Selection) -> Result<&'static Device, Error> {
    let devices = devices()?;
    devices.get(selection.index).ok_or_else(|| {
        let names: Vec<&str> = devices.iter().map(Device::name).collect();
        let (index, found) = (selection.index, names.join(", "));
        NoDevice::Index { index, found }.into()
    })
}

fn find() -> Result<Vec<Device>, Error> {
    static LIBRARY: OnceLock<Result<LevelZero, LoadError>> = OnceLock::new();
    let library = LIBRARY.get_or_init(LevelZero::open).as_ref();
    let ze = library.map_err(|e| NoDevice::Loader(e.to_string()))?;
    // SAFETY: no preconditions.
    let result = unsafe { (ze.zeInit)(ZE_INIT_FLAG_GPU_ONLY) };
    let none = |result: &str| {
        let (result, nodes) = (result.into(), nodes());
        Error::from(NoDevice::Driver { result, nodes })
    };
    if result != ZE_RESULT_SUCCESS {
        return Err(none(name(result)));
    }
    // SAFETY: the count is that of the list's room.
    let drivers = unsafe { list(|n, out| (ze.zeDriverGet)(n, out), "zeDriverGet") }?;
    let wrapped = drivers.len() > 1;
    let mut devices = Vec::new();
    for driver in drivers {
        // SAFETY: as above.
        let handles = unsafe { list(|n, out| (ze.zeDeviceGet)(driver, n, out), "zeDeviceGet") };
        // A driver whose devices cannot be listed has none to offer.
        for handle in handles.unwrap_or_default() {
            devices.extend(Device::new(ze, driver, handle, wrapped)?);
        }
    }
    if devices.is_empty() {
        return Err(none("no GPU among the devices"));
    }
    devices.sort_by_key(|d| {
        let plain = d.architecture().matrix_sub_group().is_none();
        (plain, std::cmp::Reverse(d.memory_bytes()))
    });
    Ok(devices)
}

/// A list by Level Zero's protocol: ask for the count, then for so many elements.
///
/// # Safety
/// `f` writes at most as many elements as the count says.
unsafe fn list<T>(
    f: impl Fn(*mut u32, *mut *mut T) -> ze_result_t,
    call: &'static str,
) -> Result<Vec<*mut T>, Error> {
    let mut count = 0;
    check(f(&mut count, null_mut()), || call.into())?;
    let mut items = vec![null_mut(); count as usize];
    check(f(&mut count, items.as_mut_ptr()), || call.into())?;
    items.truncate(count as usize);
    Ok(items)
}

/// What is in /dev/dri, for a person who wonders why there is no GPU.
fn nodes() -> String {
    let Ok(entries) = std::fs::read_dir("/dev/dri") else {
        return "there is no /dev/dri".into();
    };
    let paths = entries.flatten().map(|e| e.path());
    let nodes: Vec<String> = paths
        .filter(|p| p.to_string_lossy().contains("renderD"))
        .map(
            |p| match std::fs::File::options().read(true).write(true).open(&p) {
                Ok(_) => format!("{} can be opened", p.display()),
                Err(e) => format!("{}: {e}", p.display()),
            },
        )
        .collect();
    match nodes.is_empty() {
        true => "/dev/dri has no renderD*".into(),
        false => nodes.join(", "),
    }
}
