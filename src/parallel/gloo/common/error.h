// Stands in for gloo's header, which libtorch does not bring; nothing of it is used.
#pragma once
