// Products with packed weights, which libtorch has and tch does not bind, and elementwise passes over a row for which
// libtorch takes several: norm, rotation. All on the CPU, in float32 or bfloat16, with gradient. mod.rs says what
// each computes. A function returns null where it succeeds, and otherwise a message that the caller frees.

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <algorithm>
#include <cmath>
#include <cstring>
#include <torch/csrc/autograd/custom_function.h>

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// Each is compiled for three kinds of processor, of which the program takes the best that it runs on.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && __GNUC__ >= 12
#define EACH_PROCESSOR __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define EACH_PROCESSOR
#endif
#define INLINE static inline __attribute__((always_inline))

namespace {

// ---- numbers -------------------------------------------------------------------------------------------------------

INLINE float wide(float x) { return x; }

INLINE float wide(uint16_t x) {
  uint32_t bits = uint32_t(x) << 16;
  float y;
  std::memcpy(&y, &bits, 4);
  return y;
}

INLINE void narrow(float x, float& y) { y = x; }

// To the nearest bfloat16, ties to even; a NaN stays one.
INLINE void narrow(float x, uint16_t& y) {
  uint32_t bits;
  std::memcpy(&bits, &x, 4);
  uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  rounded = (bits & 0x7fffffffu) > 0x7f800000u ? 0x7fc0u : rounded;
  y = uint16_t(rounded);
}

// x as the type T holds it.
template <typename T>
INLINE float held(float x) {
  T y;
  narrow(x, y);
  return wide(y);
}

// ---- rows ----------------------------------------------------------------------------------------------------------

template <typename T>
INLINE float inverse_scale(const T* x, int64_t h, float eps) {
  float lanes[16] = {0};
  int64_t j = 0;
  for (; j + 16 <= h; j += 16)
    for (int l = 0; l < 16; ++l) lanes[l] += wide(x[j + l]) * wide(x[j + l]);
  float sum = 0;
  for (; j < h; ++j) sum += wide(x[j]) * wide(x[j]);
  for (int l = 0; l < 16; ++l) sum += lanes[l];
  return 1.0f / std::sqrt(sum / float(h) + eps);
}

template <typename T>
INLINE void norm_row(const T* __restrict x, const T* __restrict w, T* __restrict y, int64_t h, float eps) {
  float scale = inverse_scale(x, h, eps);
  for (int64_t j = 0; j < h; ++j) narrow(held<T>(wide(x[j]) * scale) * wide(w[j]), y[j]);
}

template <typename T>
INLINE void norm_row_back(const T* __restrict x, const T* __restrict w, const T* __restrict dy, T* __restrict dx, int64_t h, float eps) {
  float scale = inverse_scale(x, h, eps), lanes[16] = {0};
  int64_t j = 0;
  for (; j + 16 <= h; j += 16)
    for (int l = 0; l < 16; ++l) lanes[l] += held<T>(wide(dy[j + l]) * wide(w[j + l])) * wide(x[j + l]);
  float dot = 0;
  for (; j < h; ++j) dot += held<T>(wide(dy[j]) * wide(w[j])) * wide(x[j]);
  for (int l = 0; l < 16; ++l) dot += lanes[l];
  float pull = dot * scale * scale / float(h);
  for (j = 0; j < h; ++j) narrow((held<T>(wide(dy[j]) * wide(w[j])) - wide(x[j]) * pull) * scale, dx[j]);
}

// One head of d numbers, turned by the angles; `sign` -1 turns it back.
template <typename T>
INLINE void rotate_head(const T* __restrict x, const T* __restrict c, const T* __restrict s, T* __restrict y, int64_t d, float sign) {
  int64_t half = d / 2;
  for (int64_t j = 0; j < half; ++j) {
    float a = wide(x[j]), b = wide(x[j + half]);
    float first = held<T>(a * wide(c[j])) - held<T>(sign * b * wide(s[j]));
    float second = held<T>(b * wide(c[j + half])) + held<T>(sign * a * wide(s[j + half]));
    narrow(first, y[j]);
    narrow(second, y[j + half]);
  }
}

// Each kind of row, for every processor and both kinds of numbers.
#define FOR_KIND(T, NAME)                                                                                               \
  EACH_PROCESSOR void norm_##NAME(const T* x, const T* w, T* y, int64_t rows, int64_t h, float eps) {                   \
    for (int64_t r = 0; r < rows; ++r) norm_row(x + r * h, w, y + r * h, h, eps);                                       \
  }                                                                                                                     \
  EACH_PROCESSOR void norm_back_##NAME(const T* x, const T* w, const T* dy, T* dx, int64_t rows, int64_t h, float eps) { \
    for (int64_t r = 0; r < rows; ++r) norm_row_back(x + r * h, w, dy + r * h, dx + r * h, h, eps);                     \
  }                                                                                                                     \
  EACH_PROCESSOR void rotate_##NAME(const T* x, const T* c, const T* s, T* y, int64_t heads, int64_t step, int64_t d,   \
                                    float sign) {                                                                       \
    for (int64_t i = 0; i < heads; ++i) rotate_head(x + i * step, c, s, y + i * d, d, sign);                            \
  }
FOR_KIND(float, f32)
FOR_KIND(uint16_t, bf16)

bool is_float(const Tensor& x) {
  TORCH_CHECK(x.is_cpu() && (x.scalar_type() == at::kFloat || x.scalar_type() == at::kBFloat16),
              "expected float32 or bfloat16 on the CPU, got ", x.scalar_type(), " on ", x.device());
  return x.scalar_type() == at::kFloat;
}

float* f32(const Tensor& x) { return static_cast<float*>(x.data_ptr()); }
uint16_t* bf16(const Tensor& x) { return static_cast<uint16_t*>(x.data_ptr()); }

// Numbers that a thread takes at a time.
constexpr int64_t GRAIN = 1 << 14;

template <typename F>
void in_parallel(int64_t n, int64_t each, const F& work) {
  at::parallel_for(0, n, std::max<int64_t>(1, GRAIN / std::max<int64_t>(1, each)), work);
}

// ---- packed products -----------------------------------------------------------------------------------------------

Tensor packed(const Tensor& weight) {
  static auto op = c10::Dispatcher::singleton()
                       .findSchemaOrThrow("mkldnn::_reorder_linear_weight", "")
                       .typed<Tensor(const Tensor&, std::optional<c10::SymInt>)>();
  return op.call(weight, std::nullopt);
}

Tensor times(const Tensor& x, const Tensor& packed, const std::optional<Tensor>& bias) {
  static auto op = c10::Dispatcher::singleton()
                       .findSchemaOrThrow("mkldnn::_linear_pointwise", "")
                       .typed<Tensor(const Tensor&, const Tensor&, const std::optional<Tensor>&, std::string_view,
                                     c10::List<std::optional<at::Scalar>>, std::optional<std::string_view>)>();
  return op.call(x, packed, bias, "none", c10::List<std::optional<at::Scalar>>(), std::string_view(""));
}

std::optional<Tensor> given(const Tensor* x) { return x ? std::optional<Tensor>(*x) : std::nullopt; }

struct Linear : torch::autograd::Function<Linear> {
  static Tensor forward(AutogradContext* ctx, const Tensor& x, const Tensor* forth, const Tensor* back,
                        const Tensor* bias) {
    ctx->saved_data["back"] = *back;
    return times(x, *forth, given(bias));
  }
  static variable_list backward(AutogradContext* ctx, variable_list dy) {
    return {times(dy[0], ctx->saved_data["back"].toTensor(), std::nullopt), Tensor(), Tensor(), Tensor()};
  }
};

// ---- elementwise ---------------------------------------------------------------------------------------------------

struct Norm : torch::autograd::Function<Norm> {
  static Tensor forward(AutogradContext* ctx, const Tensor& xs, const Tensor& weight, double eps) {
    auto x = xs.contiguous();
    ctx->save_for_backward({x, weight});
    ctx->saved_data["eps"] = eps;
    auto y = at::empty_like(x);
    int64_t h = x.size(-1), rows = h ? x.numel() / h : 0;
    bool plain = is_float(x);
    in_parallel(rows, h, [&](int64_t from, int64_t to) {
      int64_t at = from * h, n = to - from;
      plain ? norm_f32(f32(x) + at, f32(weight), f32(y) + at, n, h, float(eps))
            : norm_bf16(bf16(x) + at, bf16(weight), bf16(y) + at, n, h, float(eps));
    });
    return y;
  }
  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    auto saved = ctx->get_saved_variables();
    auto &x = saved[0], &weight = saved[1];
    float eps = float(ctx->saved_data["eps"].toDouble());
    auto dy = grads[0].contiguous(), dx = at::empty_like(x);
    int64_t h = x.size(-1), rows = h ? x.numel() / h : 0;
    bool plain = is_float(x);
    in_parallel(rows, h, [&](int64_t from, int64_t to) {
      int64_t at = from * h, n = to - from;
      plain ? norm_back_f32(f32(x) + at, f32(weight), f32(dy) + at, f32(dx) + at, n, h, eps)
            : norm_back_bf16(bf16(x) + at, bf16(weight), bf16(dy) + at, bf16(dx) + at, n, h, eps);
    });
    return {dx, Tensor(), Tensor()};
  }
};

// x [N, G, T, heads, D]; cosines and sines [N or 1, T, D].
Tensor rotated(const Tensor& xs, const Tensor& cos, const Tensor& sin, float sign) {
  auto x = xs.stride(-1) == 1 ? xs : xs.contiguous();
  TORCH_CHECK(x.dim() == 5 && cos.is_contiguous() && sin.is_contiguous(), "expected [N, G, T, heads, D] and flat angles");
  int64_t g = x.size(1), t = x.size(2), heads = x.size(3), d = x.size(4);
  int64_t own = cos.size(0) == 1 ? 0 : t;  // places between the angles of a row and those of the next
  TORCH_CHECK(cos.sizes() == sin.sizes() && cos.numel() == (own ? x.size(0) : 1) * t * d, "expected angles of each place");
  auto y = at::empty(x.sizes(), x.options());
  bool plain = is_float(x);
  in_parallel(x.size(0) * g * t, heads * d, [&](int64_t from, int64_t to) {
    for (int64_t i = from; i < to; ++i) {
      int64_t n = i / (g * t), place = i % t;
      int64_t in = n * x.stride(0) + i / t % g * x.stride(1) + place * x.stride(2), out = i * heads * d;
      int64_t angle = (n * own + place) * d;
      plain ? rotate_f32(f32(x) + in, f32(cos) + angle, f32(sin) + angle, f32(y) + out, heads, x.stride(3), d, sign)
            : rotate_bf16(bf16(x) + in, bf16(cos) + angle, bf16(sin) + angle, bf16(y) + out, heads, x.stride(3), d, sign);
    }
  });
  return y;
}

struct Rotate : torch::autograd::Function<Rotate> {
  static Tensor forward(AutogradContext* ctx, const Tensor& x, const Tensor& cos, const Tensor& sin) {
    ctx->save_for_backward({cos, sin});
    return rotated(x, cos, sin, 1.0f);
  }
  static variable_list backward(AutogradContext* ctx, variable_list dy) {
    auto saved = ctx->get_saved_variables();
    return {rotated(dy[0], saved[0], saved[1], -1.0f), Tensor(), Tensor()};
  }
};

template <typename F>
char* caught(Tensor** out, const F& make) {
  try {
    *out = new Tensor(make());
    return nullptr;
  } catch (const std::exception& error) {
    return strdup(error.what());
  }
}

}  // namespace

extern "C" {

char* gist_pack(Tensor** out, const Tensor* weight) {
  return caught(out, [&] { return packed(*weight); });
}

char* gist_linear(Tensor** out, const Tensor* x, const Tensor* forth, const Tensor* back, const Tensor* bias) {
  return caught(out, [&] {
    if (back) return Linear::apply(*x, forth, back, bias);
    return times(*x, *forth, given(bias));
  });
}

char* gist_norm(Tensor** out, const Tensor* x, const Tensor* weight, double eps) {
  return caught(out, [&] { return Norm::apply(*x, *weight, eps); });
}

char* gist_rotate(Tensor** out, const Tensor* x, const Tensor* cos, const Tensor* sin) {
  return caught(out, [&] { return Rotate::apply(*x, *cos, *sin); });
}
}
