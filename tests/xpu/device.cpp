// PyTorch's `xpu` device for a build of PyTorch without it, on the memory of Level Zero, for tests.
//
// Tensors lie in device memory that the host cannot read. Copies are queued; those to the host are waited for. Any other operator
// runs on the CPU, on copies.
#include <ATen/EmptyTensor.h>
#include <ATen/core/Tensor.h>
#include <ATen/native/CPUFallback.h>
#include <ATen/ops/as_strided_native.h>
#include <ATen/ops/empty_strided.h>
#include <ATen/ops/set_native.h>
#include <ATen/ops/view_native.h>
#include <ATen/detail/XPUHooksInterface.h>
#include <c10/core/Allocator.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <torch/library.h>

#include <cstdlib>

extern "C" {
void *xpu_allocate(size_t bytes);
void xpu_free(void *start);
void xpu_copy(void *to, const void *from, size_t bytes);
void xpu_wait();
}

namespace {

using at::Tensor;
constexpr auto XPU = c10::DeviceType::XPU;
const c10::Device DEVICE(XPU, 0);
const c10::DispatchKeySet KEYS(c10::DispatchKey::XPU);

struct Guard final : c10::impl::DeviceGuardImplInterface {
  c10::DeviceType type() const override { return XPU; }
  c10::Device exchangeDevice(c10::Device) const override { return DEVICE; }
  c10::Device getDevice() const override { return DEVICE; }
  void setDevice(c10::Device) const override {}
  void uncheckedSetDevice(c10::Device) const noexcept override {}
  c10::Stream getStream(c10::Device) const override { return c10::Stream(c10::Stream::DEFAULT, DEVICE); }
  c10::Stream exchangeStream(c10::Stream stream) const override { return stream; }
  c10::DeviceIndex deviceCount() const noexcept override { return 1; }
  // There is one stream, which is in order.
  void record(void **, const c10::Stream &, const c10::DeviceIndex, const c10::EventFlag) const override {}
  void block(void *, const c10::Stream &) const override {}
  bool queryEvent(void *) const override { return true; }
  void destroyEvent(void *, const c10::DeviceIndex) const noexcept override {}
};

C10_REGISTER_GUARD_IMPL(XPU, Guard)

// By these PyTorch knows that there is an accelerator, and which.
struct XPUHooks final : at::XPUHooksInterface {
  explicit XPUHooks(at::XPUHooksArgs) {}
  XPUHooks() = default;
  void init() const override {}
  bool hasXPU() const override { return true; }
  bool hasPrimaryContext(c10::DeviceIndex) const override { return true; }
  c10::DeviceIndex current_device() const override { return 0; }
  c10::DeviceIndex getNumGPUs() const override { return 1; }
  c10::Device getDeviceFromPtr(void *) const override {
    TORCH_CHECK(!std::getenv("IPEX_TEST_STRANGE_MEMORY"), "memory of someone else's");
    return DEVICE;
  }
  c10::DeviceIndex deviceCount() const override { return 1; }
  c10::DeviceIndex getCurrentDevice() const override { return 0; }
};

using at::RegistererXPUHooksRegistry;
using at::XPUHooksRegistry;
REGISTER_XPU_HOOKS(XPUHooks)

struct Allocator final : c10::Allocator {
  c10::DataPtr allocate(size_t bytes) override {
    void *start = bytes ? xpu_allocate(bytes) : nullptr;
    return {start, start, start ? &xpu_free : [](void *) {}, DEVICE};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &xpu_free; }
  void copy_data(void *to, const void *from, size_t bytes) const override { xpu_copy(to, from, bytes); }
};

Allocator allocator;

Tensor empty(c10::SymIntArrayRef size, std::optional<at::ScalarType> dtype, std::optional<at::Layout>,
             std::optional<at::Device>, std::optional<bool>, std::optional<at::MemoryFormat> format) {
  auto type = dtype.value_or(at::get_default_dtype_as_scalartype());
  return at::detail::empty_generic(C10_AS_INTARRAYREF_SLOW(size), &allocator, KEYS, type, format);
}

Tensor empty_strided(c10::SymIntArrayRef size, c10::SymIntArrayRef stride, std::optional<at::ScalarType> dtype,
                     std::optional<at::Layout>, std::optional<at::Device>, std::optional<bool>) {
  auto type = dtype.value_or(at::get_default_dtype_as_scalartype());
  return at::detail::empty_strided_generic(C10_AS_INTARRAYREF_SLOW(size), C10_AS_INTARRAYREF_SLOW(stride), &allocator, KEYS,
                                           type);
}

// The memory of a tensor from its first to its last element as elements of the host's.
Tensor on_host(const Tensor &tensor) {
  if (tensor.device().is_cpu()) return tensor;
  int64_t span = tensor.numel() > 0;
  for (int64_t d = 0; d < tensor.dim(); d++) span += (tensor.size(d) - 1) * tensor.stride(d);
  if (tensor.numel() == 0) span = 0;
  Tensor flat = at::detail::empty_cpu({span}, tensor.scalar_type());
  xpu_copy(flat.mutable_data_ptr(), tensor.const_data_ptr(), span * tensor.element_size());
  xpu_wait();
  return at::native::as_strided_tensorimpl(flat, tensor.sizes(), tensor.strides(), 0);
}

Tensor &copy(Tensor &self, const Tensor &source, bool) {
  Tensor from = on_host(source);
  if (self.device().is_cpu()) {
    self.copy_(from);
    return self;
  }
  // The elements between those of a view are another's: what is there goes down and up again.
  Tensor mirror = on_host(self);
  mirror.copy_(from);
  // As on a GPU, the copy runs later, from memory of its own.
  static std::vector<c10::Storage> &staged = *new std::vector<c10::Storage>;
  staged.push_back(mirror.storage());
  xpu_copy(self.mutable_data_ptr(), mirror.const_data_ptr(), mirror.storage().nbytes());
  return self;
}

Tensor copy_and_resize(const Tensor &self, const Tensor &to) {
  Tensor result = to;
  if (result.sizes() != self.sizes()) result.resize_(self.sizes());
  return copy(result, self, false);
}

// Of results that start empty.
const Tensor &resize(const Tensor &self, c10::SymIntArrayRef size, std::optional<at::MemoryFormat>) {
  at::TensorImpl *impl = self.unsafeGetTensorImpl();
  impl->set_sizes_contiguous(C10_AS_INTARRAYREF_SLOW(size));
  size_t bytes = (impl->storage_offset() + impl->numel()) * impl->itemsize();
  if (bytes > self.storage().nbytes()) {
    self.storage().set_data_ptr_noswap(allocator.allocate(bytes));
    self.storage().set_nbytes(bytes);
  }
  return self;
}

at::Scalar item(const Tensor &self) { return on_host(self).item(); }

void on_cpu(const c10::OperatorHandle &op, c10::DispatchKeySet, torch::jit::Stack *stack) {
  at::native::cpu_fallback(op, stack);
}

TORCH_LIBRARY_IMPL(_, XPU, m) { m.fallback(torch::CppFunction::makeFromBoxedFunction<&on_cpu>()); }

TORCH_LIBRARY_IMPL(aten, XPU, m) {
  m.impl("empty.memory_format", empty);
  m.impl("empty_strided", empty_strided);
  m.impl("as_strided", at::native::as_strided_tensorimpl);
  m.impl("view", at::native::view);
  m.impl("copy_", copy);
  m.impl("_copy_from_and_resize", copy_and_resize);
  m.impl("resize_", resize);
  m.impl("_local_scalar_dense", item);
  m.impl("set_.source_Storage_storage_offset", at::native::set_storage_cpu_);
}

struct Register {
  Register() { c10::SetAllocator(XPU, &allocator); }
} registered;

}  // namespace
