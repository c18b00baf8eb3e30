// Compiles torch_pch.h; the header is what this target is for.
