// How Python's scalar `translate` becomes a hit without Python: a method of an heir of `Front`, with `hits_first`
// before it. What hits is answered here; for all else, wrong arguments too, the method is called as if nothing stood
// before it.
#include "ask.hpp"
#include "batch.hpp"
#include "fast_call.hpp"
#include "translation.hpp"
// Once Python.h is there.
#include <structmember.h>

namespace viommu {
namespace {

enum Argument : unsigned { requester, iova, access_, pasid, arguments };

struct PyFront {
    PyObject_HEAD PyObject* translator;  // null: nothing is answered here
    PyTranslator* t;
    u64 requester_last, pasid_last;
    u32 requester;  // of `one_requester`
    bool one_requester, has_pasids;
};

PyTypeObject* front_type = nullptr;

int traverse_front(PyObject* self, visitproc visit, void* arg) {
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(reinterpret_cast<PyFront*>(self)->translator);
    return 0;
}
int clear_front(PyObject* self) {
    reinterpret_cast<PyFront*>(self)->t = nullptr;
    Py_CLEAR(reinterpret_cast<PyFront*>(self)->translator);
    return 0;
}
void free_front(PyObject* self) {
    PyTypeObject* const type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    clear_front(self);
    type->tp_free(self);
    Py_DECREF(type);
}

PyFront* front_of(PyObject* self) {
    static PyTypeObject* seen = nullptr;  // an heir, found once; classes of Fronts do not come and go
    if (Py_TYPE(self) != seen) [[unlikely]] {
        if (!PyObject_TypeCheck(self, front_type)) return nullptr;
        Py_INCREF(Py_TYPE(self));
        Py_XSETREF(seen, Py_TYPE(self));
    }
    auto* const front = reinterpret_cast<PyFront*>(self);
    return front->t ? front : nullptr;
}

// --- batches, as far as columns are what the engine takes

// A column that is given as an array of the very type, or one value that stands for every row.
template <typename T> class GivenColumn {
public:
    // False where it is neither, or holds what is above `most` (and is not `also`).
    bool read(PyObject* object, u64 most, u64 also) {
        if (Py_TYPE(object) != py::detail::npy_api::get().PyArray_Type_) return read_number(object, most, value_);
        const auto array = py::reinterpret_borrow<py::array>(object);
        const py::dtype type = array.dtype();
        constexpr int wanted = py::detail::npy_api::NPY_ARRAY_C_CONTIGUOUS_ | py::detail::npy_api::NPY_ARRAY_ALIGNED_;
        if (array.ndim() != 1 || (array.flags() & wanted) != wanted || type.kind() != 'u' ||
            type.itemsize() != sizeof(T) || type.byteorder() == '>')
            return false;
        rows_ = static_cast<std::size_t>(array.shape(0));
        data_ = static_cast<const T*>(array.data());
        return is_within(static_cast<T>(std::min<u64>(most, static_cast<T>(~T{0}))), static_cast<T>(also));
    }
    bool is_array() const { return data_; }
    u64 value() const { return value_; }
    std::size_t rows() const { return rows_; }
    const T* data() const { return data_; }
    // Where there is one value, it is written out.
    const T* spread(std::size_t rows) {
        if (!data_) {
            written_.assign(rows, static_cast<T>(value_));
            return written_.data();
        }
        return data_;
    }

private:
    // Every row is looked at, many at once: the answer nearly always is that all are right.
    bool is_within(T most, T also) const {
        if (most == static_cast<T>(~T{0})) return true;
        T beyond = 0;
        for (std::size_t row = 0; row < rows_; ++row)
            beyond |= static_cast<T>(data_[row] > most) & static_cast<T>(data_[row] != also);
        return !beyond;
    }

    std::size_t rows_ = 0;
    const T* data_ = nullptr;
    u64 value_ = 0;
    std::vector<T> written_;
};

struct GivenColumns {
    GivenColumn<u32> requester, pasid;
    GivenColumn<u64> iova;
    GivenColumn<u8> access;
    bool has_pasid = false;

    // False where anything is not as the engine takes it, or not within bounds.
    bool read(const PyFront& front, PyObject* const (&asked)[arguments]) {
        has_pasid = asked[Argument::pasid] != Py_None;
        if (has_pasid && !(front.has_pasids && pasid.read(asked[Argument::pasid], front.pasid_last, no_pasid)))
            return false;
        constexpr u64 accesses = access::wants | access::privileged;
        if (!requester.read(asked[Argument::requester], front.requester_last, front.requester_last) ||
            !iova.read(asked[Argument::iova], ~u64{0}, 0) || !access.read(asked[access_], accesses, 0))
            return false;
        return iova.is_array() && fits(requester) && fits(access) && (!has_pasid || fits(pasid)) &&
               all_want_something();
    }
    Rows spread() {
        const std::size_t rows = iova.rows();
        return {requester.spread(rows), has_pasid ? pasid.spread(rows) : nullptr, iova.data(), access.spread(rows),
                rows};
    }

private:
    template <typename T> bool fits(const GivenColumn<T>& column) const {
        return !column.is_array() || column.rows() == iova.rows();
    }
    bool all_want_something() const {
        u8 idle = 0;
        if (!access.is_array()) return access.value() & access::wants;
        for (std::size_t row = 0; row < access.rows(); ++row) idle |= !(access.data()[row] & access::wants);
        return !idle;
    }
};

py::object translate_columns(PyFront& front, PyTypeObject* heir, PyObject* const (&asked)[arguments]) {
    GivenColumns columns;
    if (!front.t || front.t->engine.sanitizes() || !columns.read(front, asked)) return py::none();
    const Rows rows = columns.spread();
    NewBatch batch(heir, rows.size);
    {
        py::gil_scoped_release unlocked;
        BatchTranslation(front.t->engine, rows, batch.columns()).run([&](ContextKey key) {
            py::gil_scoped_acquire locked;
            return ask(front.t->resolve, key, batch.refusals());
        });
    }
    const auto given = [&](Argument which) { return py::reinterpret_borrow<py::object>(asked[which]); };
    return batch.told({given(requester), given(iova), given(access_), given(pasid)});
}
PyObject* call_translate_columns(PyObject* self, PyObject* const* args, Py_ssize_t count) {
    if (count != 5 || !PyType_Check(args[0]) || !is_heir_of_batch(reinterpret_cast<PyTypeObject*>(args[0])))
        return PyErr_Format(PyExc_TypeError, "translate_columns: a class of Batch's and four columns are needed");
    PyObject* const asked[arguments] = {args[1], args[2], args[3], args[4]};
    return raising([&] {
        return translate_columns(*reinterpret_cast<PyFront*>(self), reinterpret_cast<PyTypeObject*>(args[0]), asked);
    });
}

// --- hits_first

struct HitsFirst {
    PyObject_HEAD vectorcallfunc call;
    PyObject* method;
    PyObject* dictionary;
};
HitsFirst& hits_first_of(PyObject* self) { return *reinterpret_cast<HitsFirst*>(self); }

PyObject* argument_names[arguments];

// Puts arguments in their places; false where a place is taken twice or the name is none.
bool place(PyObject* const* given, Py_ssize_t count, PyObject* names, unsigned first, PyObject* (&placed)[arguments]) {
    if (count > static_cast<Py_ssize_t>(arguments - first)) return false;
    for (Py_ssize_t i = 0; i < count; ++i) placed[first + i] = given[i];
    if (!names) [[likely]]
        return true;
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(names); ++i) {
        unsigned at = first;
        while (at < arguments && PyTuple_GET_ITEM(names, i) != argument_names[at]) ++at;
        if (at == arguments || placed[at]) return false;
        placed[at] = given[count + i];
    }
    return true;
}

// What is asked, read from arguments; false where anything about it is out of the ordinary.
struct Question {
    u64 requester, pasid = no_pasid, iova, access = access::read;
};
bool read(const PyFront& front, PyObject* (&placed)[arguments], Question& asked) {
    asked.requester = front.requester;
    if (!front.one_requester && !read_number(placed[requester], front.requester_last, asked.requester)) return false;
    if (!read_number(placed[iova], ~u64{0}, asked.iova)) return false;
    if (placed[access_] && !read_number(placed[access_], access::wants | access::privileged, asked.access))
        return false;
    if (!(asked.access & access::wants)) return false;
    return !placed[pasid] || placed[pasid] == Py_None ||
           (front.has_pasids && read_number(placed[pasid], front.pasid_last, asked.pasid));
}

PyObject* call(PyObject* self, PyObject* const* args, std::size_t flagged, PyObject* names) {
    const Py_ssize_t count = PyVectorcall_NARGS(flagged);
    if (PyFront* const front = count ? front_of(args[0]) : nullptr) {
        PyObject* placed[arguments] = {};
        Question asked;
        TranslatorHit hit;
        if (place(args + 1, count - 1, names, front->one_requester ? iova : requester, placed) &&
            read(*front, placed, asked) &&
            front->t->engine.try_hit({static_cast<u32>(asked.requester), static_cast<u32>(asked.pasid)}, asked.iova,
                                     static_cast<u8>(asked.access), hit))
            return new_translation(asked.iova, hit.pa, hit.ipa, hit.rest);
    }
    return PyObject_Vectorcall(hits_first_of(self).method, args, flagged, names);
}

PyObject* make_hits_first(PyTypeObject* type, PyObject* args, PyObject* names) {
    PyObject* method;
    if (names && PyDict_GET_SIZE(names)) return PyErr_Format(PyExc_TypeError, "hits_first: a method is all it takes");
    if (!PyArg_ParseTuple(args, "O:hits_first", &method)) return nullptr;
    return raising([&] {
        py::object made = owned(type->tp_alloc(type, 0));
        hits_first_of(made.ptr()).call = call;
        hits_first_of(made.ptr()).method = Py_NewRef(method);
        // Name, documentation and signature are the method's.
        py::module_::import("functools").attr("update_wrapper")(made, py::handle(method));
        return made;
    });
}
PyObject* bind(PyObject* self, PyObject* object, PyObject*) {
    return object && object != Py_None ? PyMethod_New(self, object) : Py_NewRef(self);
}
int traverse_hits_first(PyObject* self, visitproc visit, void* arg) {
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(hits_first_of(self).method);
    Py_VISIT(hits_first_of(self).dictionary);
    return 0;
}
int clear_hits_first(PyObject* self) {
    Py_CLEAR(hits_first_of(self).method);
    Py_CLEAR(hits_first_of(self).dictionary);
    return 0;
}
void free_hits_first(PyObject* self) {
    PyTypeObject* const type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    clear_hits_first(self);
    type->tp_free(self);
    Py_DECREF(type);
}

py::object make_front_type() {
    static PyMethodDef methods[] = {fast_method("translate_columns", call_translate_columns, METH_FASTCALL,
                                                "translate_columns(heir, requester, iova, access, pasid)"),
                                    {}};
    static PyType_Slot slots[] = {
        {Py_tp_doc, const_cast<char*>("Who has translations sent through a Translator (`hits_first`).")},
        {Py_tp_new, reinterpret_cast<void*>(PyType_GenericNew)},
        {Py_tp_dealloc, reinterpret_cast<void*>(free_front)},
        {Py_tp_traverse, reinterpret_cast<void*>(traverse_front)},
        {Py_tp_clear, reinterpret_cast<void*>(clear_front)},
        {Py_tp_methods, methods},
        {},
    };
    static PyType_Spec spec = {"viommu._engine.Front", sizeof(PyFront), 0,
                               Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC, slots};
    return owned(PyType_FromSpec(&spec));
}
py::object make_hits_first_type() {
    static PyMemberDef members[] = {
        {"__vectorcalloffset__", T_PYSSIZET, offsetof(HitsFirst, call), READONLY, nullptr},
        {"__dictoffset__", T_PYSSIZET, offsetof(HitsFirst, dictionary), READONLY, nullptr},
        {},
    };
    static PyGetSetDef properties[] = {{"__dict__", PyObject_GenericGetDict, PyObject_GenericSetDict, nullptr, nullptr},
                                       {}};
    static PyType_Slot slots[] = {
        {Py_tp_doc,
         const_cast<char*>("hits_first(method)\n\nLet a method of a `Front` be asked only for what the engine does not "
                           "answer as a hit.")},
        {Py_tp_new, reinterpret_cast<void*>(make_hits_first)},
        {Py_tp_dealloc, reinterpret_cast<void*>(free_hits_first)},
        {Py_tp_traverse, reinterpret_cast<void*>(traverse_hits_first)},
        {Py_tp_clear, reinterpret_cast<void*>(clear_hits_first)},
        {Py_tp_call, reinterpret_cast<void*>(PyVectorcall_Call)},
        {Py_tp_descr_get, reinterpret_cast<void*>(bind)},
        {Py_tp_members, members},
        {Py_tp_getset, properties},
        {},
    };
    static PyType_Spec spec = {
        "viommu._engine.hits_first", sizeof(HitsFirst), 0,
        Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_HAVE_VECTORCALL | Py_TPFLAGS_METHOD_DESCRIPTOR, slots};
    return owned(PyType_FromSpec(&spec));
}

void answer_through(const py::object& object, py::object translator, u64 requester_last, std::int64_t pasid_last,
                    std::optional<u32> requester) {
    if (!PyObject_TypeCheck(object.ptr(), front_type)) throw py::type_error("answer_through: this is no Front");
    auto& front = *reinterpret_cast<PyFront*>(object.ptr());
    front.t = translator.cast<PyTranslator*>();
    front.requester_last = std::min<u64>(requester_last, ~u32{0});
    front.has_pasids = pasid_last >= 0;
    front.pasid_last = std::min<u64>(static_cast<u64>(pasid_last), no_pasid - 1);
    front.one_requester = requester.has_value();
    front.requester = requester.value_or(0);
    Py_XSETREF(front.translator, translator.release().ptr());
}

}  // namespace

void bind_front(py::module_& m) {
    const char* const names[] = {"requester", "iova", "access", "pasid"};
    for (unsigned i = 0; i < arguments; ++i) argument_names[i] = PyUnicode_InternFromString(names[i]);
    py::object type = make_front_type();
    m.attr("Front") = type;
    front_type = reinterpret_cast<PyTypeObject*>(type.release().ptr());
    m.attr("hits_first") = make_hits_first_type();
    const py::handle front(reinterpret_cast<PyObject*>(front_type));
    front.attr("answer_through") =
        py::cpp_function(&answer_through, py::name("answer_through"), py::is_method(front), "translator"_a,
                         "requester_last"_a, "pasid_last"_a, "requester"_a = py::none());
}

}  // namespace viommu
