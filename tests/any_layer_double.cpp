#include "any_layer_impl.hpp"

template class AnyLayer<double>;
