#include "driver/tools/sweep/store.hpp"

#include <fmt/core.h>
#include <sqlite3.h>

#include "driver/include/cx/error.hpp"

namespace cx::tools {

/// A prepared statement; columns and parameters count from 0 and 1 as in SQLite.
class SweepStore::Statement {
 public:
  Statement(const SweepStore &store, const char *sql) : store_(store) {
    check(sqlite3_prepare_v2(store.database_, sql, -1, &statement_, nullptr));
  }
  ~Statement() { sqlite3_finalize(statement_); }
  Statement(const Statement &) = delete;
  Statement &operator=(const Statement &) = delete;

  Statement &bind(const std::string &value) {
    check(sqlite3_bind_text(statement_, ++bound_, value.data(), static_cast<int>(value.size()), SQLITE_TRANSIENT));
    return *this;
  }
  Statement &bind(double value) {
    check(sqlite3_bind_double(statement_, ++bound_, value));
    return *this;
  }
  Statement &bind(uint64_t value) {
    check(sqlite3_bind_int64(statement_, ++bound_, static_cast<sqlite3_int64>(value)));
    return *this;
  }
  /// Whether there is a row.
  bool step() {
    const int code = sqlite3_step(statement_);
    if (code != SQLITE_ROW && code != SQLITE_DONE) check(code);
    return code == SQLITE_ROW;
  }
  std::string text(int column) const {
    const auto *bytes = reinterpret_cast<const char *>(sqlite3_column_text(statement_, column));
    return {bytes != nullptr ? bytes : "", static_cast<std::size_t>(sqlite3_column_bytes(statement_, column))};
  }
  double real(int column) const { return sqlite3_column_double(statement_, column); }
  uint64_t integer(int column) const { return static_cast<uint64_t>(sqlite3_column_int64(statement_, column)); }

 private:
  void check(int code) const {
    if (code != SQLITE_OK)
      throw InputError(fmt::format("{}: {}", store_.file_.string(), sqlite3_errmsg(store_.database_)));
  }
  const SweepStore &store_;
  sqlite3_stmt *statement_ = nullptr;
  int bound_ = 0;
};

SweepStore::SweepStore(const std::filesystem::path &file, const SweepSpec &spec) : file_(file) {
  for (const SweepParameter &parameter : spec.parameters) names_.push_back(parameter.key);
  try {
    if (sqlite3_open(file.c_str(), &database_) != SQLITE_OK) {
      throw InputError(fmt::format("{}: {}", file.string(), sqlite3_errmsg(database_)));
    }
    sqlite3_busy_timeout(database_, 10'000);
    run("PRAGMA journal_mode = WAL");
    run("PRAGMA synchronous = NORMAL");
    run("CREATE TABLE IF NOT EXISTS sweep (key TEXT PRIMARY KEY, value TEXT NOT NULL)");
    run("CREATE TABLE IF NOT EXISTS points (id INTEGER PRIMARY KEY, state TEXT NOT NULL, reason TEXT NOT NULL, "
        "attempts INTEGER NOT NULL, wall_s REAL NOT NULL)");
    run("CREATE TABLE IF NOT EXISTS parameters (point INTEGER NOT NULL REFERENCES points (id), name TEXT NOT NULL, "
        "value TEXT NOT NULL, PRIMARY KEY (point, name))");
    run("CREATE TABLE IF NOT EXISTS metrics (point INTEGER NOT NULL REFERENCES points (id), name TEXT NOT NULL, "
        "value REAL NOT NULL, PRIMARY KEY (point, name))");
    const std::string digest = note("digest");
    if (digest.empty()) {
      set_note("name", spec.name);
      set_note("digest", spec.digest);
    } else if (digest != spec.digest) {
      throw InputError(
          fmt::format("{}: holds results of another sweep, or of this one before {}, its chip or its "
                      "workload changed; expected an empty folder, or --fresh to drop them",
                      file.string(), spec.file.string()));
    }
  } catch (...) {
    sqlite3_close(database_);
    throw;
  }
}

SweepStore::~SweepStore() { sqlite3_close(database_); }

void SweepStore::run(const std::string &sql) {
  if (sqlite3_exec(database_, sql.c_str(), nullptr, nullptr, nullptr) != SQLITE_OK) {
    throw InputError(fmt::format("{}: {}", file_.string(), sqlite3_errmsg(database_)));
  }
}

void SweepStore::add(const SweepResult &result) {
  run("BEGIN IMMEDIATE");
  try {
    Statement known(*this, "SELECT 1 FROM points WHERE id = ?");
    if (!known.bind(result.point.id).step()) {
      Statement(*this, "INSERT INTO points VALUES (?, ?, ?, ?, ?)")
          .bind(result.point.id)
          .bind(std::string(name_of(result.state)))
          .bind(result.reason)
          .bind(uint64_t{result.attempts})
          .bind(result.wall_s)
          .step();
      for (std::size_t i = 0; i < names_.size(); ++i) {
        Statement(*this, "INSERT INTO parameters VALUES (?, ?, ?)")
            .bind(result.point.id)
            .bind(names_[i])
            .bind(result.point.values.at(i))
            .step();
      }
      for (const auto &[name, value] : result.metrics) {
        Statement(*this, "INSERT INTO metrics VALUES (?, ?, ?)").bind(result.point.id).bind(name).bind(value).step();
      }
    }
  } catch (...) {
    sqlite3_exec(database_, "ROLLBACK", nullptr, nullptr, nullptr);
    throw;
  }
  run("COMMIT");
}

std::vector<SweepResult> SweepStore::results() const {
  std::vector<SweepResult> results;
  Statement points(*this, "SELECT id, state, reason, attempts, wall_s FROM points ORDER BY id");
  while (points.step()) {
    SweepResult &result = results.emplace_back();
    result.point.id = points.integer(0);
    result.state = state_from(points.text(1));
    result.reason = points.text(2);
    result.attempts = static_cast<uint32_t>(points.integer(3));
    result.wall_s = points.real(4);
    for (const std::string &name : names_) {
      Statement value(*this, "SELECT value FROM parameters WHERE point = ? AND name = ?");
      value.bind(result.point.id).bind(name).step();
      result.point.values.push_back(value.text(0));
    }
    Statement metrics(*this, "SELECT name, value FROM metrics WHERE point = ?");
    metrics.bind(result.point.id);
    while (metrics.step()) result.metrics[metrics.text(0)] = metrics.real(1);
  }
  return results;
}

std::string SweepStore::note(const std::string &key) const {
  Statement statement(*this, "SELECT value FROM sweep WHERE key = ?");
  return statement.bind(key).step() ? statement.text(0) : "";
}

void SweepStore::set_note(const std::string &key, const std::string &value) {
  Statement(*this, "INSERT INTO sweep VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value")
      .bind(key)
      .bind(value)
      .step();
}

}  // namespace cx::tools
