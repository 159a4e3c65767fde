#include "translation.hpp"

#include "py_numbers.hpp"
// Once Python.h is there.
#include <structmember.h>

#include <bit>

namespace viommu {
namespace {

struct PyTranslation {
    PyObject_HEAD u64 iova;
    TranslatorHit hit;
};

PyTypeObject* translation_type = nullptr;
PyObject* rights_names[8] = {};  // what `rights` are, by number; null: plain numbers

PyTranslation& of(PyObject* self) { return *reinterpret_cast<PyTranslation*>(self); }

py::object named_rights(u8 rights) {
    if (PyObject* const name = rights_names[rights & 7]) return py::reinterpret_borrow<py::object>(name);
    return py::int_(rights);
}
py::int_ page_size_of(u8 page_lg2) { return py::int_(page_lg2 == whole_lg2 ? 0 : bit(page_lg2)); }

// All that a Translation is, in the order of its parameters.
py::tuple fields(PyObject* self) {
    const auto& [iova, hit] = std::tie(of(self).iova, of(self).hit);
    return py::make_tuple(iova, hit.pa, page_size_of(hit.page_lg2()), named_rights(hit.rights()), hit.ipa, hit.attrs1(),
                          hit.attrs2());
}
constexpr const char* field_names[] = {"iova", "pa", "page_size", "rights", "ipa", "attrs1", "attrs2"};

u64 number(py::handle value, const char* field, u64 most) {
    if (!PyLong_Check(value.ptr())) throw py::type_error(std::string("Translation: ") + field + " is a whole number");
    u64 read;
    if (!read_number(value.ptr(), most, read))
        throw py::value_error(std::string("Translation: ") + field + " " + std::string(py::repr(value)) +
                              " is not within 0.." + std::to_string(most));
    return read;
}
u8 page_lg2_of(py::handle value) {
    const u64 size = number(value, "page_size", ~u64{0});
    if (size & (size - 1)) throw py::value_error("Translation: page_size " + hex(size) + " is no power of two");
    return size ? static_cast<u8>(std::countr_zero(size)) : whole_lg2;
}

PyObject* make(PyTypeObject*, PyObject* arguments, PyObject* names) {
    PyObject *iova, *pa, *page_size, *rights, *ipa, *attrs1 = nullptr, *attrs2 = nullptr;
    static char* keywords[8];
    for (unsigned i = 0; i < 7; ++i) keywords[i] = const_cast<char*>(field_names[i]);
    if (!PyArg_ParseTupleAndKeywords(arguments, names, "OOOOO|OO:Translation", keywords, &iova, &pa, &page_size,
                                     &rights, &ipa, &attrs1, &attrs2))
        return nullptr;
    return raising([&] {
        const u8 small1 = attrs1 ? static_cast<u8>(number(attrs1, "attrs1", 0xFF)) : 0;
        const u8 small2 = attrs2 ? static_cast<u8>(number(attrs2, "attrs2", 0xFF)) : 0;
        const u32 rest = TranslatorHit::packed(
            page_lg2_of(page_size), static_cast<u8>(number(rights, "rights", access::wants)), small1, small2);
        return owned(new_translation(number(iova, "iova", ~u64{0}), number(pa, "pa", ~u64{0}),
                                     number(ipa, "ipa", ~u64{0}), rest));
    });
}

// Those that were freed last, for those that are made next: a scalar hit makes one, and most live shortly.
#if !defined(Py_GIL_DISABLED)
constexpr unsigned most_spare = 32;
#else
constexpr unsigned most_spare = 0;
#endif
PyTranslation* spare[most_spare + 1];
unsigned spare_count = 0;

void free_translation(PyObject* self) {
    PyTypeObject* const type = Py_TYPE(self);
    if (spare_count < most_spare)
        spare[spare_count++] = &of(self);
    else
        PyObject_Free(self);
    Py_DECREF(type);
}

PyObject* describe(PyObject* self) {
    return raising([&] {
        const py::tuple all = fields(self);
        std::string text = "Translation(";
        for (unsigned i = 0; i < 7; ++i) {
            const bool address = i < 3 || i == 4;
            text += std::string(i ? ", " : "") + field_names[i] + "=" +
                    (address ? hex(all[i].cast<u64>()) : std::string(py::repr(all[i])));
        }
        return py::str(text + ")");
    });
}

bool same(const PyTranslation& a, const PyTranslation& b) { return a.iova == b.iova && a.hit == b.hit; }
PyObject* compare(PyObject* self, PyObject* other, int operation) {
    if ((operation != Py_EQ && operation != Py_NE) || Py_TYPE(other) != Py_TYPE(self)) Py_RETURN_NOTIMPLEMENTED;
    return PyBool_FromLong(same(of(self), of(other)) == (operation == Py_EQ));
}
Py_hash_t hash(PyObject* self) {
    try {
        return PyObject_Hash(fields(self).ptr());
    } catch (py::error_already_set& error) {
        error.restore();
        return -1;
    }
}
PyObject* reduce(PyObject* self, PyObject*) {
    return raising(
        [&] { return py::make_tuple(py::handle(reinterpret_cast<PyObject*>(Py_TYPE(self))), fields(self)); });
}

template <typename Value> PyObject* value(const Value& made) {
    return raising([&] { return py::object(made); });
}
PyObject* page_size(PyObject* self, void*) { return value(page_size_of(of(self).hit.page_lg2())); }
PyObject* rights(PyObject* self, void*) { return value(named_rights(of(self).hit.rights())); }
PyObject* attrs1(PyObject* self, void*) { return PyLong_FromLong(of(self).hit.attrs1()); }
PyObject* attrs2(PyObject* self, void*) { return PyLong_FromLong(of(self).hit.attrs2()); }
PyObject* untranslated(PyObject* self, void*) { return PyBool_FromLong(of(self).hit.page_lg2() == whole_lg2); }

PyMemberDef member(const char* name, int type, std::size_t offset, const char* documentation) {
    return {name, type, static_cast<Py_ssize_t>(offset), READONLY, documentation};
}
constexpr std::size_t hit_at = offsetof(PyTranslation, hit);

PyTypeObject* make_type() {
    static PyMemberDef members[] = {
        member("iova", T_ULONGLONG, offsetof(PyTranslation, iova), "What was asked for."),
        member("pa", T_ULONGLONG, hit_at + offsetof(TranslatorHit, pa), "Where it goes."),
        member("ipa", T_ULONGLONG, hit_at + offsetof(TranslatorHit, ipa), "What stage 1 made of it."),
        {},
    };
    static PyGetSetDef properties[] = {
        {"page_size", page_size, nullptr, "Bytes of the page, 0 where no table took part.", nullptr},
        {"rights", rights, nullptr, "What the access's privilege may do there.", nullptr},
        {"attrs1", attrs1, nullptr, "Raw attributes of stage 1's leaf.", nullptr},
        {"attrs2", attrs2, nullptr, "Raw attributes of stage 2's leaf.", nullptr},
        {"untranslated", untranslated, nullptr, "Whether no table took part.", nullptr},
        {}};
    static PyMethodDef methods[] = {{"__reduce__", reduce, METH_NOARGS, nullptr}, {}};
    static PyType_Slot slots[] = {
        {Py_tp_doc,
         const_cast<char*>(
             "Where one access goes (bytes).\n\n"
             "``page_size`` is the smaller of both stages', and 0 where the access passes ``untranslated``: "
             "the whole\naddress space is one page then. ``rights`` are those of the access's privilege. "
             "``ipa`` is the output of\nstage 1, the IOVA where there is none. ``attrs1`` and ``attrs2`` are "
             "the raw memory attributes of each\nstage's leaf, laid out as the format says "
             "(`viommu._engine`). Immutable, equal by value.")},
        {Py_tp_new, reinterpret_cast<void*>(make)},
        {Py_tp_dealloc, reinterpret_cast<void*>(free_translation)},
        {Py_tp_repr, reinterpret_cast<void*>(describe)},
        {Py_tp_richcompare, reinterpret_cast<void*>(compare)},
        {Py_tp_hash, reinterpret_cast<void*>(hash)},
        {Py_tp_methods, methods},
        {Py_tp_members, members},
        {Py_tp_getset, properties},
        {},
    };
    // Named for where users import it from: so it is pickled, too.
    static PyType_Spec spec = {"viommu.translation.Translation", sizeof(PyTranslation), 0, Py_TPFLAGS_DEFAULT, slots};
    py::object type = owned(PyType_FromSpec(&spec));
    py::list matched;
    for (const char* name : field_names) matched.append(name);
    py::setattr(type, "__match_args__", py::tuple(matched));
    return reinterpret_cast<PyTypeObject*>(type.release().ptr());
}

void name_rights(const py::sequence& names) {
    if (names.size() != 8) throw py::value_error("name_rights: 8 values are needed, by number");
    for (unsigned rights = 0; rights < 8; ++rights)
        Py_XSETREF(rights_names[rights], py::object(names[rights]).release().ptr());
}

}  // namespace

PyObject* new_translation(u64 iova, u64 pa, u64 ipa, u32 rest) {
    PyTranslation* made;
    if (spare_count) [[likely]] {
        made = spare[--spare_count];
        PyObject_Init(reinterpret_cast<PyObject*>(made), translation_type);
    } else {
        made = PyObject_New(PyTranslation, translation_type);
        if (!made) return nullptr;
    }
    made->iova = iova;
    made->hit.pa = pa;
    made->hit.ipa = ipa;
    made->hit.rest = rest;
    return reinterpret_cast<PyObject*>(made);
}

void bind_translation(py::module_& m) {
    translation_type = make_type();
    m.attr("Translation") = py::reinterpret_borrow<py::object>(reinterpret_cast<PyObject*>(translation_type));
    m.def("name_rights", &name_rights, "names"_a);
}

}  // namespace viommu
