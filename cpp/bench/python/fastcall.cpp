// The floor of a call from Python: a function that takes its arguments as they come, and does nothing.
#define PY_SSIZE_T_CLEAN
#include <Python.h>

namespace {

PyObject* nothing(PyObject*, PyObject* const*, Py_ssize_t) { Py_RETURN_NONE; }

// METH_FASTCALL functions have a signature of their own; the table has one type for all.
PyMethodDef methods[] = {
    {"nothing", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(nothing)), METH_FASTCALL, "Do nothing."},
    {nullptr, nullptr, 0, nullptr}};
PyModuleDef module{PyModuleDef_HEAD_INIT, "fastcall", nullptr, -1, methods, nullptr, nullptr, nullptr, nullptr};

}  // namespace

PyMODINIT_FUNC PyInit_fastcall() { return PyModule_Create(&module); }
