// Batch normalization of Eigen tensors on the CPU: everything but what needs another dependency than Eigen.

#ifndef BATCHNORM_BATCHNORM_HPP
#define BATCHNORM_BATCHNORM_HPP

#include "batchnorm/as_vector.hpp"
#include "batchnorm/batch_norm.hpp"
#include "batchnorm/folding.hpp"
#include "batchnorm/frozen_batch_norm.hpp"
#include "batchnorm/functional.hpp"
#include "batchnorm/layer_state.hpp"
#include "batchnorm/moments.hpp"
#include "batchnorm/options.hpp"
#include "batchnorm/print.hpp"
#include "batchnorm/reestimate.hpp"
#include "batchnorm/running_statistics.hpp"
#include "batchnorm/state_dict.hpp"
#include "batchnorm/version.hpp"

#endif  // BATCHNORM_BATCHNORM_HPP
