"""The evaluation bench.

datasets.load_dataset("locomo")              suite.load_suite("eval/suites/locomo.toml")
runner.plan(suite)                           runner.run_suite(suite, "eval/reports/locomo")
report.write_report(result, folder)          results.load_run(folder)
compare.compare_runs(a, b)                   compare.changed_queries(run, arm_a, arm_b)
compare.show_query(run, query_id)            gate.gate(run, baseline), verify.verify(run)
write_path.write_path(job_events, messages)
"""
