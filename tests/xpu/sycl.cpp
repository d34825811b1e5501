// A libsycl for tests: what a queue says of itself, under the names and conventions of Intel's library, over Level Zero.
//
// Copies that are queued run no sooner than somebody waits for the queue, last of all on the device's list: whoever reads memory
// of a queue without waiting for it finds what was there before.
#include <level_zero/ze_api.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <vector>

#define CHECKED(call)                                              \
  do {                                                             \
    ze_result_t result = (call);                                   \
    if (result != ZE_RESULT_SUCCESS) {                             \
      std::fprintf(stderr, "%s: %x\n", #call, unsigned(result));   \
      std::abort();                                                \
    }                                                              \
  } while (0)

namespace {

struct Copy {
  void *to;
  const void *from;
  size_t bytes;
};

// A device, a context of its own and one in-order list.
struct State {
  ze_device_handle_t device = nullptr;
  ze_context_handle_t context = nullptr;
  ze_command_list_handle_t list = nullptr;
  std::vector<Copy> pending;
  std::mutex mutex;
  long waits = 0;
  char backend = 2;

  State() {
    uint32_t one = 1;
    ze_driver_handle_t driver;
    CHECKED(zeInit(ZE_INIT_FLAG_GPU_ONLY));
    CHECKED(zeDriverGet(&one, &driver));
    CHECKED(zeDeviceGet(driver, &one, &device));
    ze_context_desc_t desc = {ZE_STRUCTURE_TYPE_CONTEXT_DESC, nullptr, 0};
    CHECKED(zeContextCreate(driver, &desc, &context));
    ze_command_queue_desc_t queue = {ZE_STRUCTURE_TYPE_COMMAND_QUEUE_DESC};
    queue.ordinal = 1;  // the group of the tests' driver that computes
    queue.mode = ZE_COMMAND_QUEUE_MODE_SYNCHRONOUS;
    CHECKED(zeCommandListCreateImmediate(context, device, &queue, &list));
  }

  void run(const Copy &copy) {
    ze_event_pool_desc_t pools = {ZE_STRUCTURE_TYPE_EVENT_POOL_DESC, nullptr, ZE_EVENT_POOL_FLAG_HOST_VISIBLE, 1};
    ze_event_desc_t events = {ZE_STRUCTURE_TYPE_EVENT_DESC, nullptr, 0, ZE_EVENT_SCOPE_FLAG_HOST, ZE_EVENT_SCOPE_FLAG_HOST};
    ze_event_pool_handle_t pool;
    ze_event_handle_t event;
    CHECKED(zeEventPoolCreate(context, &pools, 0, nullptr, &pool));
    CHECKED(zeEventCreate(pool, &events, &event));
    CHECKED(zeCommandListAppendMemoryCopy(list, copy.to, copy.from, copy.bytes, event, 0, nullptr));
    CHECKED(zeEventHostSynchronize(event, UINT64_MAX));
    CHECKED(zeEventDestroy(event));
    CHECKED(zeEventPoolDestroy(pool));
  }

  void wait() {
    std::lock_guard<std::mutex> lock(mutex);
    waits++;
    for (const Copy &copy : pending) run(copy);
    pending.clear();
  }
};

State &state() {
  static State *only = new State;
  return *only;
}

}  // namespace

namespace sycl {
inline namespace _V1 {

enum class backend : char { opencl = 1, ext_oneapi_level_zero = 2 };

namespace detail {
struct code_location;
}

class device {
  std::shared_ptr<State> own{&state(), [](State *) {}};

 public:
  std::uintptr_t getNative() const;
};

class context {
  std::shared_ptr<State> own{&state(), [](State *) {}};

 public:
  std::uintptr_t getNative() const;
};

class queue {
 public:
  context get_context() const;
  device get_device() const;
  backend get_backend() const;
  void wait_proxy(const detail::code_location &);
};

std::uintptr_t device::getNative() const { return reinterpret_cast<std::uintptr_t>(own->device); }
std::uintptr_t context::getNative() const { return reinterpret_cast<std::uintptr_t>(own->context); }
context queue::get_context() const { return {}; }
device queue::get_device() const { return {}; }
backend queue::get_backend() const { return backend(state().backend); }
void queue::wait_proxy(const detail::code_location &) { state().wait(); }

}  // namespace _V1
}  // namespace sycl

extern "C" {

void *xpu_queue() {
  static sycl::queue only;
  return &only;
}

void *xpu_allocate(size_t bytes) {
  ze_device_mem_alloc_desc_t desc = {ZE_STRUCTURE_TYPE_DEVICE_MEM_ALLOC_DESC, nullptr, 0, 0};
  void *start;
  CHECKED(zeMemAllocDevice(state().context, &desc, bytes ? bytes : 1, 64, state().device, &start));
  return start;
}

void xpu_free(void *start) {
  state().wait();
  CHECKED(zeMemFree(state().context, start));
}

void xpu_copy(void *to, const void *from, size_t bytes) {
  if (bytes == 0) return;
  std::lock_guard<std::mutex> lock(state().mutex);
  state().pending.push_back({to, from, bytes});
}

// A copy that waits for none of those that are queued.
void xpu_read(void *to, const void *from, size_t bytes) { state().run({to, from, bytes}); }

void xpu_wait() { state().wait(); }

long xpu_waits() { return state().waits; }

size_t xpu_pending() { return state().pending.size(); }

void xpu_backend(char backend) { state().backend = backend; }

// What libtorch's C ABI has in builds with xpu.
int aoti_torch_get_current_xpu_stream(int32_t index, void **queue) {
  *queue = xpu_queue();
  return index != 0;
}
}
