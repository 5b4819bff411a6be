// What an MpiCommunicator does before MPI begins, after it has ended, and when its copies end.

#include <batchnorm/mpi.hpp>

#include <cstdio>
#include <memory>
#include <stdexcept>
#include <string>

namespace {

int failures = 0;

void expect(bool holds, const char* claim) {
  if (holds) return;
  ++failures;
  std::fprintf(stderr, "not so: %s\n", claim);
}

template <class Error, class F>
void expect_thrown(const F& f, const std::string& part, const char* claim) {
  try {
    f();
    expect(false, claim);
  } catch (const Error& error) {
    if (std::string(error.what()).find(part) == std::string::npos) {
      std::fprintf(stderr, "%s\n", error.what());
      expect(false, claim);
    }
  }
}

int copied = 0, deleted = 0;

int count_copy(MPI_Comm, int, void*, void*, void*, int* flag) {
  ++copied;
  *flag = 1;
  return MPI_SUCCESS;
}

int count_deletion(MPI_Comm, int, void*, void*) {
  ++deleted;
  return MPI_SUCCESS;
}

}  // namespace

int main(int argc, char** argv) {
  expect_thrown<std::logic_error>([] { batchnorm::MpiCommunicator world(MPI_COMM_WORLD); }, "call MPI_Init",
                                  "without MPI_Init a communicator is an error that names it");
  MPI_Init(&argc, &argv);

  // An attribute of the original is copied and deleted with its duplicate.
  int key = MPI_KEYVAL_INVALID;
  MPI_Comm original = MPI_COMM_NULL;
  MPI_Comm_dup(MPI_COMM_WORLD, &original);
  MPI_Comm_create_keyval(count_copy, count_deletion, &key, nullptr);
  MPI_Comm_set_attr(original, key, nullptr);
  {
    auto first = std::make_unique<batchnorm::MpiCommunicator>(original);
    batchnorm::MpiCommunicator second = *first, third(MPI_COMM_SELF);
    third = second;
    expect(copied == 1, "copies share one duplicate");
    first.reset();
    const double mine = second.rank();
    double all[64];
    second.all_gather(&mine, 1, all);
    third.all_gather(&mine, 1, all);
    expect(deleted == 0, "a copy keeps the duplicate");
  }
  expect(deleted == 1, "the last copy frees the duplicate");

  // The original may end first.
  const batchnorm::MpiCommunicator kept(original);
  MPI_Comm_delete_attr(original, key);
  MPI_Comm_free(&original);
  const double mine = kept.rank();
  double all[64];
  kept.all_gather(&mine, 1, all);
  expect(all[kept.size() - 1] > kept.size() - 1.5, "a communicator outlives the one of which it is a duplicate");

  MPI_Finalize();
  expect_thrown<std::logic_error>([] { batchnorm::MpiCommunicator world(MPI_COMM_WORLD); }, "after MPI_Finalize",
                                  "after MPI_Finalize a communicator is an error");
  expect_thrown<std::logic_error>([&] { kept.all_gather(&mine, 1, all); }, "after MPI_Finalize",
                                  "after MPI_Finalize a call is an error");
  return failures == 0 ? 0 : 1;  // here `kept` ends, after MPI
}
