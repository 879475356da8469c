"""What is reached through ctypes: the C++ library of the CPU, the CUDA launcher, NVRTC, and the structs both take."""
