// Waves of one Verilated model.
#pragma once

#include <verilated_fst_c.h>

#include <cstdint>
#include <fstream>
#include <memory>
#include <stdexcept>
#include <string>

namespace cx::rtl {

class FstWaves {
 public:
  /// Throws std::runtime_error when the file cannot be written.
  template <class Model>
  void open(Model &model, const std::string &path) {
    if (!std::ofstream(path)) throw std::runtime_error(path + ": cannot be written");
    file_ = std::make_unique<VerilatedFstC>();
    file_->set_time_unit("1ps");
    file_->set_time_resolution("1ps");
    model.trace(file_.get(), 99);
    file_->open(path.c_str());
  }
  void close() {
    if (file_) file_->close();
    file_.reset();
  }
  /// Nothing when no file is open.
  void dump(uint64_t time_ps) {
    if (file_) file_->dump(time_ps);
  }

 private:
  std::unique_ptr<VerilatedFstC> file_;
};

}  // namespace cx::rtl
