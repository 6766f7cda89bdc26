// The process group that libtorch brings (c10d, Gloo) with its key-value store, as plain functions. ranks.rs says what each
// does. A function returns null where it succeeds, and otherwise a message that the caller frees.

#define USE_C10D_GLOO 1
#include <ATen/ATen.h>
#include <chrono>
#include <cstring>
#include <string>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>
#include <vector>

namespace {

using Milliseconds = std::chrono::milliseconds;

struct Group {
  c10::intrusive_ptr<c10d::Store> store;
  c10::intrusive_ptr<c10d::ProcessGroupGloo> gloo;
  int rank;
  int count;
};

template <typename F>
char* guarded(F f) {
  try {
    f();
    return nullptr;
  } catch (const std::exception& error) {
    std::string message = error.what();
    return strdup(message.substr(0, message.find('\n')).c_str());  // behind it stands a trace
  }
}

at::Tensor bytes_of(const void* data, int64_t length) {
  return at::from_blob(const_cast<void*>(data), {length}, at::kByte);
}

}  // namespace

extern "C" {

char* gist_ranks_meet(Group** out, const char* host, int port, bool serves, int rank, int count, int64_t timeout_ms) {
  return guarded([&] {
    c10d::TCPStoreOptions options;
    options.port = static_cast<std::uint16_t>(port);
    options.isServer = serves;
    options.waitWorkers = false;  // who is missing is told by name, later
    options.timeout = Milliseconds(timeout_ms);
    auto store = c10::make_intrusive<c10d::TCPStore>(host, options);
    *out = new Group{c10::make_intrusive<c10d::PrefixStore>("gist", store), nullptr, rank, count};
  });
}

char* gist_ranks_connect(Group* group, const char* interface, int64_t timeout_ms) {
  return guarded([&] {
    auto options = c10d::ProcessGroupGloo::Options::create(Milliseconds(timeout_ms));
    options->devices.push_back(
        *interface ? c10d::ProcessGroupGloo::createDeviceForInterface(interface)
                   : c10d::ProcessGroupGloo::createDefaultDevice());
    group->gloo = c10::make_intrusive<c10d::ProcessGroupGloo>(group->store, group->rank, group->count, options);
  });
}

char* gist_ranks_set(Group* group, const char* key, const uint8_t* value, int64_t length) {
  return guarded([&] { group->store->set(key, std::vector<uint8_t>(value, value + length)); });
}

// Length -1 where there is no such key; at most `room` bytes of its value otherwise.
char* gist_ranks_get(Group* group, const char* key, uint8_t* value, int64_t room, int64_t* length) {
  return guarded([&] {
    *length = -1;
    if (group->store->check({key})) {
      auto found = group->store->get(key);
      *length = std::min<int64_t>(room, found.size());
      std::memcpy(value, found.data(), *length);
    }
  });
}

char* gist_ranks_gather(Group* group, uint8_t* out, const uint8_t* in, int64_t length) {
  return guarded([&] {
    auto all = bytes_of(out, length * group->count), own = bytes_of(in, length);
    group->gloo->_allgather_base(all, own)->wait();
  });
}

char* gist_ranks_exchange(Group* group, uint8_t* out, const uint8_t* in, int64_t length) {
  return guarded([&] {
    auto to = bytes_of(out, length * group->count), from = bytes_of(in, length * group->count);
    std::vector<int64_t> equal;
    group->gloo->alltoall_base(to, from, equal, equal)->wait();
  });
}

void gist_ranks_leave(Group* group) { delete group; }
}
