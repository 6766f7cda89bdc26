// Stands in for gloo's header, which libtorch does not bring: names that libtorch's own headers mention.
#pragma once
#include <chrono>

namespace gloo {
class Context {
 public:
  void setTimeout(std::chrono::milliseconds);
};
namespace transport {
class UnboundBuffer;
}
}  // namespace gloo
