"""Has Spark with delta-spark read our random histories, as delta_histories.py has
other readers, and write Delta tables for our reader to read: in one session,
whose start takes longer than most of it.

    SPARK_DELTA_JARS=DIR delta_spark.py HISTORIES FOLDER

Writes FOLDER/<case>/delta and, as Spark reads it back, FOLDER/<case>/expected.
TestAcceptance in internal/delta then reads them, with PGMIRROR_DELTA_ACCEPTANCE
set to FOLDER: it must read a table rightly, or refuse it.
"""

import os
import sys

import delta_histories

VECTORS = {"delta.enableDeletionVectors": "true"}
OFTEN = {**VECTORS, "delta.checkpointInterval": "3"}
COLUMNS = (
    "id BIGINT, flag BOOLEAN, small SMALLINT, whole INT, f FLOAT, d DOUBLE, money DECIMAL(12,2), big DECIMAL(38,4), day DATE, at TIMESTAMP, name STRING, raw BINARY"
)
ROWS = """SELECT id, id % 2 = 0, CAST(id % 100 AS SMALLINT), CAST(id * 7 AS INT), CAST(id / 3 AS FLOAT), id / 7D, CAST(id / 4 AS DECIMAL(12,2)),
  CAST(-id * 1000000000000 AS DECIMAL(38,4)), date_add(DATE'1969-12-01', CAST(id AS INT)), timestamp_micros(id * 1234567),
  CASE WHEN id % 5 = 0 THEN NULL ELSE concat('näme ', id) END, CAST(CAST(id AS STRING) AS BINARY) FROM range({0}, {1})"""


class Spark:
    def __init__(self, folder):
        import glob

        import pyspark
        from pyspark.sql import SparkSession

        jars = glob.glob(os.path.join(os.environ["SPARK_DELTA_JARS"], "*.jar"))
        if not jars:
            raise ImportError("SPARK_DELTA_JARS holds no jars")
        delta = [os.path.basename(j) for j in jars if os.path.basename(j).startswith("delta-spark")][0]
        self.version = pyspark.__version__ + " with " + delta.removesuffix(".jar")
        self.spark = (
            SparkSession.builder.master("local[1]")
            .config("spark.jars", ",".join(jars))
            .config("spark.sql.extensions", "io.delta.sql.DeltaSparkSessionExtension")
            .config("spark.sql.catalog.spark_catalog", "org.apache.spark.sql.delta.catalog.DeltaCatalog")
            # The tables are tiny: what is compiled well is run once.
            .config("spark.driver.memory", "1g")
            .config("spark.driver.extraJavaOptions", "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC -XX:CICompilerCount=1")
            .config("spark.sql.codegen.wholeStage", "false")
            .config("spark.sql.adaptive.enabled", "false")
            .config("spark.sql.warehouse.dir", os.path.join(folder, "warehouse"))
            .config("spark.ui.enabled", "false")
            .config("spark.ui.showConsoleProgress", "false")
            .config("spark.sql.shuffle.partitions", "1")
            .config("spark.databricks.delta.snapshotPartitions", "1")
            .config("spark.driver.bindAddress", "127.0.0.1")
            .config("spark.driver.host", "127.0.0.1")
            .getOrCreate()
        )
        self.spark.sparkContext.setLogLevel("ERROR")

    def read(self, path, version):
        reader = self.spark.read.format("delta")
        if version is not None:
            reader = reader.option("versionAsOf", version)
        return [row.asDict() for row in reader.load(path).collect()]


def case(spark, root, name, properties, *statements, partition="", columns=COLUMNS):
    path = os.path.join(root, name, "delta")
    spark.sql("DROP TABLE IF EXISTS t")
    props = ", ".join(f"'{k}'='{v}'" for k, v in properties.items()) or "'x'='y'"
    spark.sql(f"CREATE TABLE t ({columns}) USING delta {partition} LOCATION '{path}' TBLPROPERTIES ({props})")
    for s in statements:
        spark.sql(s)
    spark.table("t").coalesce(1).write.parquet(os.path.join(root, name, "expected"))
    print(name, "written", flush=True)


def main(histories, root):
    reader = Spark(root)
    failed = delta_histories.check(histories, {"spark": lambda: reader})
    write(reader.spark, root)
    return failed


def write(spark, root):
    fill = "INSERT INTO t " + ROWS
    change = ("DELETE FROM t WHERE id % 3 = 0", "UPDATE t SET name = 'changed' WHERE id % 7 = 0")
    appends = tuple(fill.format(i * 10, i * 10 + 10) for i in range(4))
    case(spark, root, "append", {}, fill.format(0, 500))
    case(spark, root, "copy_on_write", {}, fill.format(0, 500), *change)
    case(spark, root, "vectors", VECTORS, fill.format(0, 500), *change)
    case(spark, root, "vectors_twice", VECTORS, fill.format(0, 500), *change, "DELETE FROM t WHERE id % 5 = 1", "DELETE FROM t WHERE id = 4")
    case(spark, root, "checkpoint", OFTEN, *appends, *change)
    case(spark, root, "checkpoint_struct_stats", {**OFTEN, "delta.checkpoint.writeStatsAsStruct": "true", "delta.checkpoint.writeStatsAsJson": "false"}, *appends, *change)
    case(spark, root, "optimized", OFTEN, *appends, *change, "OPTIMIZE t")
    case(spark, root, "purged", OFTEN, *appends, *change, "REORG TABLE t APPLY (PURGE)")
    case(spark, root, "column_added", VECTORS, fill.format(0, 50), "ALTER TABLE t ADD COLUMNS (more STRING)", fill.format(50, 60).replace(" FROM range", ", 'more' FROM range"))
    case(spark, root, "restored", VECTORS, fill.format(0, 50), *change, "RESTORE TABLE t TO VERSION AS OF 2")
    case(spark, root, "timestamp_ntz", {"delta.feature.timestampNtz": "supported"}, "INSERT INTO t SELECT id, CAST(timestamp_micros(id) AS TIMESTAMP_NTZ) FROM range(9)",
         columns="id BIGINT, at TIMESTAMP_NTZ")
    # What our reader doesn't know.
    case(spark, root, "refused_partitions", {}, fill.format(0, 50), partition="PARTITIONED BY (flag)")
    case(spark, root, "refused_column_mapping", {"delta.columnMapping.mode": "name"}, fill.format(0, 50), "ALTER TABLE t RENAME COLUMN name TO label")
    case(spark, root, "refused_v2_checkpoint", {**OFTEN, "delta.checkpointPolicy": "v2"}, *appends)
    case(spark, root, "refused_nested", {}, "INSERT INTO t SELECT id, array(id) FROM range(9)", columns="id BIGINT, list ARRAY<BIGINT>")
    case(spark, root, "refused_type_widening", {"delta.enableTypeWidening": "true"}, "INSERT INTO t SELECT 1", "ALTER TABLE t ALTER COLUMN n TYPE BIGINT", "INSERT INTO t SELECT 1L << 40", columns="n INT")


if __name__ == "__main__":
    sys.exit(main(os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2])))
