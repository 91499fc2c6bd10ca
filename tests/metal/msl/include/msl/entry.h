// Behind a rewritten source: calls a kernel of any signature with the arguments of its binding list (../../table.py).
#pragma once
#pragma clang system_header

namespace msl {

// Not instrumented: these read the runtime's memory, not the GPU's.
#define MSL_UNCHECKED __attribute__((disable_sanitizer_instrumentation))

template <class T>
struct remove_const {
  using type = T;
};
template <class T>
struct remove_const<const T> {
  using type = T;
};

// How a parameter of type P gets its value.
template <class P>
struct Parameter {
  MSL_UNCHECKED static P get(const Arguments*, const Builtins* builtins, Binding b) {
    using T = typename remove_const<P>::type;
    if constexpr (traits<T>::is_vector) {
      T value;
      for (int c = 0; c < traits<T>::n; c++) value[c] = (element<T>)builtins->value[b.kind][c];
      return value;
    } else {
      return (T)builtins->value[b.kind][0];
    }
  }
};
template <class P>
struct Parameter<P*> {
  MSL_UNCHECKED static P* get(const Arguments* a, const Builtins*, Binding b) {
    return (P*)(b.kind == buffer ? a->buffer[b.index] : a->memory[b.index]);
  }
};
template <class P>
struct Parameter<P&> {
  MSL_UNCHECKED static P& get(const Arguments* a, const Builtins* builtins, Binding b) { return *Parameter<P*>::get(a, builtins, b); }
};

template <int...>
struct Indices {};
template <int N, int... I>
struct Count : Count<N - 1, N - 1, I...> {};
template <int... I>
struct Count<0, I...> {
  using type = Indices<I...>;
};

template <auto F, const Binding* B>
struct Entry;
template <class... P, void (*F)(P...), const Binding* B>
struct Entry<F, B> {
  template <int... I>
  MSL_UNCHECKED static void call(const Arguments* a, const Builtins* b, Indices<I...>) {
    F(Parameter<P>::get(a, b, B[I])...);
  }
  MSL_UNCHECKED static void run(const Arguments* a, const Builtins* b) { call(a, b, typename Count<sizeof...(P)>::type()); }
};

}  // namespace msl
