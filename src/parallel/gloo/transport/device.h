// Stands in for gloo's header, which libtorch does not bring: names that libtorch's own headers mention.
#pragma once

namespace gloo::transport {
class Device;
class UnboundBuffer;
}  // namespace gloo::transport
