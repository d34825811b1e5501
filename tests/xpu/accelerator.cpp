// Loaded before PyTorch, whose builds for CUDA say that CUDA is the accelerator, whether there is one or not: autograd asks this for
// the streams of its nodes.
#include <cstdint>
#include <optional>

namespace c10 {
enum class DeviceType : int8_t { XPU = 12 };
}

namespace at::accelerator {
std::optional<c10::DeviceType> getAccelerator(bool) { return c10::DeviceType::XPU; }
}  // namespace at::accelerator
