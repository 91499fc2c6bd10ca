// Python bindings of the World tokenizer's core: WorldTrie, unescape_world_tokens().

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/error.h"
#include "core/trie.h"
#include "released.h"

namespace py = pybind11;

namespace {

using rwkvnative::InputError;
using rwkvnative::message;
using rwkvnative::WorldTrie;

std::unique_ptr<WorldTrie> make_trie(const py::list& tokens,
                                     const py::array_t<std::int32_t, py::array::c_style | py::array::forcecast>& ids) {
  if (ids.ndim() != 1) throw InputError(message("[tokenizer] ids: expected 1 dimension, got ", ids.ndim()));
  std::vector<py::bytes> owned;  // keeps the bytes alive while the GIL is released, whatever happens to the list
  std::vector<std::string_view> views;
  owned.reserve(tokens.size());
  views.reserve(tokens.size());
  for (const py::handle token : tokens) {
    if (!PyBytes_Check(token.ptr()))
      throw InputError(message("[tokenizer] tokens: expected bytes, got ", Py_TYPE(token.ptr())->tp_name));
    owned.push_back(py::reinterpret_borrow<py::bytes>(token));
    views.emplace_back(PyBytes_AS_STRING(token.ptr()), static_cast<std::size_t>(PyBytes_GET_SIZE(token.ptr())));
  }
  const std::span<const std::int32_t> id_span(ids.data(), static_cast<std::size_t>(ids.size()));
  const rwkvnative::Released released;
  return std::make_unique<WorldTrie>(views, id_span);
}

py::array_t<std::int32_t> encode(const WorldTrie& trie, const py::bytes& text) {
  const std::string_view view(PyBytes_AS_STRING(text.ptr()), static_cast<std::size_t>(PyBytes_GET_SIZE(text.ptr())));
  std::vector<std::int32_t> ids;
  {
    const rwkvnative::Released released;
    ids = trie.encode(view);
  }
  return py::array_t<std::int32_t>(static_cast<py::ssize_t>(ids.size()), ids.data());
}

py::list unescape_world_tokens(const py::list& spellings) {
  py::list tokens(spellings.size());
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    const py::handle item = spellings[i];
    if (!PyUnicode_Check(item.ptr()))
      throw InputError(message("[tokenizer] token ", i, ": expected str, got ", Py_TYPE(item.ptr())->tp_name));
    // Bytes that are not UTF-8 reach Python as surrogates; here they become bytes again.
    const auto utf8 =
        py::reinterpret_steal<py::bytes>(PyUnicode_AsEncodedString(item.ptr(), "utf-8", "surrogateescape"));
    if (!utf8) throw py::error_already_set();
    const std::string_view view(PyBytes_AS_STRING(utf8.ptr()), static_cast<std::size_t>(PyBytes_GET_SIZE(utf8.ptr())));
    if (view.find('\\') == std::string_view::npos) {
      tokens[i] = utf8;
      continue;
    }
    try {
      tokens[i] = py::bytes(rwkvnative::unescape_world_token(view));
    } catch (const InputError& error) {
      throw InputError(message("[tokenizer] token ", i, ": ", error.what()));
    }
  }
  return tokens;
}

}  // namespace

void bind_tokenizer(py::module_& m) {
  py::class_<WorldTrie>(m, "WorldTrie",
                        "A byte trie over a vocabulary, for greedy longest match. Immutable and thread-safe.")
      .def(py::init(&make_trie), py::arg("tokens"), py::arg("ids"),
           "tokens: list[bytes]; ids: int32 [n], the id of each. Empty tokens match nothing; of equal tokens the last "
           "wins.\n"
           "Raises InputError for lengths that differ and negative ids.")
      .def("encode", &encode, py::arg("data"),
           "The ids of bytes as int32 [n_tokens]. Releases the GIL. Raises InputError where no token matches.")
      .def_property_readonly("n_nodes", &WorldTrie::n_nodes, "Nodes of the trie, nine bytes each.");
  m.def("unescape_world_tokens", &unescape_world_tokens, py::arg("spellings"),
        "list[bytes] of the tokens that a World GGUF spells as list[str] (repr(bytes) without the quotes).\n"
        "Raises InputError naming the token that is not a valid spelling.");
}
