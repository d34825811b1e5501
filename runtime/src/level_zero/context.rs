//! A device with a context: of its own, or another's.

use super::architecture::Architecture;
use super::driver::devices;
use super::error::{Error, check};
use super::memory::Pool;
use super::sycl::NoQueue;
use level_zero_sys::*;
use std::ffi::CStr;
use std::ptr::null_mut;
use std::sync::{Arc, Mutex};

/// A GPU. Cheap to clone.
#[derive(Clone)]
pub struct Device(pub(super) Arc<Inner>);

pub(super) struct Inner {
    pub ze: &'static LevelZero,
    pub handle: ze_device_handle_t,
    pub context: ze_context_handle_t,
    /// Whether the context is someone else's, who keeps it alive.
    borrowed: bool,
    pub pool: Pool,
    pub about: About,
}

/// What a driver says of a device.
#[derive(Clone)]
pub(super) struct About {
    /// The queue group that computes.
    pub group: u32,
    /// Whether lists can be in order by themselves.
    pub in_order: bool,
    /// Whether the loader wraps handles: it then crashes on the log of a module that failed.
    pub wrapped: bool,
    name: String,
    id: u32,
    driver_version: u32,
    memory: u64,
    engines: u32,
    f64: bool,
    /// Nanoseconds of a tick of kernel timestamps, and how many bits they have.
    pub tick: f64,
    pub tick_bits: u32,
}

// SAFETY: Level Zero lets devices and contexts be used from any thread.
unsafe impl Send for Inner {}
// SAFETY: as above.
unsafe impl Sync for Inner {}

/// A structure of Level Zero with its type tag.
macro_rules! structure {
    ($ty:ident, $tag:ident $(, $field:ident: $value:expr)* $(,)?) => {
        $ty { stype: $tag, $($field: $value,)* ..Default::default() }
    };
}
pub(super) use structure;

impl Device {
    /// A device of a driver; none if it is no GPU.
    pub(super) fn new(
        ze: &'static LevelZero,
        driver: ze_driver_handle_t,
        handle: ze_device_handle_t,
        wrapped: bool,
    ) -> Result<Option<Device>, Error> {
        let mut p = structure!(ze_device_properties_t, ZE_STRUCTURE_TYPE_DEVICE_PROPERTIES);
        let mut d = structure!(ze_driver_properties_t, ZE_STRUCTURE_TYPE_DRIVER_PROPERTIES);
        let mut version = 0;
        // SAFETY: the handles are the driver's, the structures tagged.
        unsafe {
            check((ze.zeDeviceGetProperties)(handle, &mut p), || {
                "zeDeviceGetProperties".into()
            })?;
            check((ze.zeDriverGetProperties)(driver, &mut d), || {
                "zeDriverGetProperties".into()
            })?;
            check((ze.zeDriverGetApiVersion)(driver, &mut version), || {
                "zeDriverGetApiVersion".into()
            })?;
        }
        if p.type_ != ZE_DEVICE_TYPE_GPU {
            return Ok(None);
        }
        let Some(group) = compute_group(ze, handle)? else {
            return Ok(None);
        };
        let desc = structure!(ze_context_desc_t, ZE_STRUCTURE_TYPE_CONTEXT_DESC);
        let mut context = null_mut();
        // SAFETY: as above.
        let made = unsafe { (ze.zeContextCreate)(driver, &desc, &mut context) };
        check(made, || "zeContextCreate".into())?;
        // SAFETY: the driver ends the name by NUL.
        let name = unsafe { CStr::from_ptr(p.name.as_ptr()) };
        let about = About {
            group,
            in_order: version >= api_version(1, 7),
            wrapped,
            name: name.to_string_lossy().into_owned(),
            id: p.deviceId,
            driver_version: d.driverVersion,
            memory: memory(ze, handle)?,
            engines: p.numSlices * p.numSubslicesPerSlice * p.numEUsPerSubslice,
            f64: has_f64(ze, handle)?,
            tick: p.timerResolution as f64,
            tick_bits: p.kernelTimestampValidBits,
        };
        Ok(Some(Device(Arc::new(Inner {
            ze,
            handle,
            context,
            borrowed: false,
            pool: Pool::default(),
            about,
        }))))
    }

    /// One of [`devices`](super::devices) in a context that the caller keeps alive for good, the same for the same handles.
    pub(super) fn within(
        context: ze_context_handle_t,
        handle: ze_device_handle_t,
    ) -> Result<Device, Error> {
        static KNOWN: Mutex<Vec<Device>> = Mutex::new(Vec::new());
        let all = devices()?;
        let own = all.iter().find(|d| d.0.handle == handle).ok_or_else(|| {
            let names: Vec<&str> = all.iter().map(Device::name).collect();
            NoQueue::Device(names.join(", "))
        })?;
        let mut known = KNOWN.lock().unwrap_or_else(|e| e.into_inner());
        let is_it = |d: &&Device| d.0.handle == handle && d.0.context == context;
        if let Some(device) = known.iter().find(is_it) {
            return Ok(device.clone());
        }
        let device = Device(Arc::new(Inner {
            ze: own.0.ze,
            handle,
            context,
            borrowed: true,
            pool: Pool::default(),
            about: own.0.about.clone(),
        }));
        known.push(device.clone());
        Ok(device)
    }

    /// Whether it is the same device, whatever the context.
    pub fn is_same(&self, other: &Device) -> bool {
        self.0.handle == other.0.handle
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.0.about.name
    }

    /// Its vector engines (EUs), each with a matrix unit where it has these.
    pub fn engines(&self) -> usize {
        self.0.about.engines as usize
    }

    /// Its family.
    pub fn architecture(&self) -> Architecture {
        Architecture::of(self.0.about.id)
    }

    /// Bytes of its memory.
    pub fn memory_bytes(&self) -> u64 {
        self.0.about.memory
    }

    /// Whether it computes in f64.
    pub fn has_f64(&self) -> bool {
        self.0.about.f64
    }

    /// What tells compiled modules of different devices and drivers apart.
    pub(super) fn identity(&self) -> String {
        format!(
            "{}-{:x}-{:x}",
            self.0.about.name, self.0.about.id, self.0.about.driver_version
        )
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.pool.clear(self.ze, self.context);
        if self.borrowed {
            return;
        }
        // SAFETY: everything in the context keeps this alive, so nothing is left in it.
        unsafe { (self.ze.zeContextDestroy)(self.context) };
    }
}

/// The first queue group that computes.
fn compute_group(ze: &LevelZero, device: ze_device_handle_t) -> Result<Option<u32>, Error> {
    let attempt = || "zeDeviceGetCommandQueueGroupProperties".to_string();
    let mut n = 0;
    // SAFETY: the count is that of the list's room.
    unsafe {
        let get = ze.zeDeviceGetCommandQueueGroupProperties;
        check(get(device, &mut n, null_mut()), attempt)?;
        let group = structure!(
            ze_command_queue_group_properties_t,
            ZE_STRUCTURE_TYPE_COMMAND_QUEUE_GROUP_PROPERTIES
        );
        let mut groups = vec![group; n as usize];
        check(get(device, &mut n, groups.as_mut_ptr()), attempt)?;
        let computes = |g: &ze_command_queue_group_properties_t| {
            g.flags & ZE_COMMAND_QUEUE_GROUP_PROPERTY_FLAG_COMPUTE != 0
        };
        Ok(groups.iter().position(computes).map(|k| k as u32))
    }
}

fn has_f64(ze: &LevelZero, device: ze_device_handle_t) -> Result<bool, Error> {
    let mut p = structure!(
        ze_device_module_properties_t,
        ZE_STRUCTURE_TYPE_DEVICE_MODULE_PROPERTIES
    );
    // SAFETY: as above.
    let got = unsafe { (ze.zeDeviceGetModuleProperties)(device, &mut p) };
    check(got, || "zeDeviceGetModuleProperties".into())?;
    Ok(p.flags & ZE_DEVICE_MODULE_FLAG_FP64 != 0)
}

fn memory(ze: &LevelZero, device: ze_device_handle_t) -> Result<u64, Error> {
    let attempt = || "zeDeviceGetMemoryProperties".to_string();
    let mut n = 0;
    // SAFETY: as above.
    unsafe {
        check(
            (ze.zeDeviceGetMemoryProperties)(device, &mut n, null_mut()),
            attempt,
        )?;
        let one = structure!(
            ze_device_memory_properties_t,
            ZE_STRUCTURE_TYPE_DEVICE_MEMORY_PROPERTIES
        );
        let mut all = vec![one; n as usize];
        check(
            (ze.zeDeviceGetMemoryProperties)(device, &mut n, all.as_mut_ptr()),
            attempt,
        )?;
        Ok(all.iter().map(|m| m.totalSize).sum())
    }
}

impl Inner {
    /// A new immediate list.
    pub fn list(&self) -> Result<ze_command_list_handle_t, Error> {
        let desc = structure!(
            ze_command_queue_desc_t,
            ZE_STRUCTURE_TYPE_COMMAND_QUEUE_DESC,
            ordinal: self.about.group,
            mode: ZE_COMMAND_QUEUE_MODE_ASYNCHRONOUS,
            flags: if self.about.in_order { ZE_COMMAND_QUEUE_FLAG_IN_ORDER } else { 0 },
        );
        let mut list = null_mut();
        let create = self.ze.zeCommandListCreateImmediate;
        // SAFETY: the handles live as long as self.
        let made = unsafe { create(self.context, self.handle, &desc, &mut list) };
        check(made, || "zeCommandListCreateImmediate".into())?;
        Ok(list)
    }

    /// A pool with one event that the host sees and that knows times, and the event.
    pub fn event(&self, timed: bool) -> Result<(ze_event_pool_handle_t, ze_event_handle_t), Error> {
        let times = if timed {
            ZE_EVENT_POOL_FLAG_KERNEL_TIMESTAMP
        } else {
            0
        };
        let desc = structure!(
            ze_event_pool_desc_t,
            ZE_STRUCTURE_TYPE_EVENT_POOL_DESC,
            count: 1,
            flags: ZE_EVENT_POOL_FLAG_HOST_VISIBLE | times,
        );
        let (mut pool, mut event) = (null_mut(), null_mut());
        // SAFETY: the handles live as long as self; no devices means all.
        let made =
            unsafe { (self.ze.zeEventPoolCreate)(self.context, &desc, 0, null_mut(), &mut pool) };
        check(made, || "zeEventPoolCreate".into())?;
        let desc = structure!(
            ze_event_desc_t,
            ZE_STRUCTURE_TYPE_EVENT_DESC,
            signal: ZE_EVENT_SCOPE_FLAG_HOST,
            wait: ZE_EVENT_SCOPE_FLAG_HOST,
        );
        // SAFETY: as above.
        let made = unsafe { (self.ze.zeEventCreate)(pool, &desc, &mut event) };
        if made != ZE_RESULT_SUCCESS {
            // SAFETY: the pool is empty.
            unsafe { (self.ze.zeEventPoolDestroy)(pool) };
        }
        check(made, || "zeEventCreate".into())?;
        Ok((pool, event))
    }
}
