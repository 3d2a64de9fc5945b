//! A table as deltalake's own reader finds it: from its log alone.

use anyhow::{Context, bail};
use deltalake::arrow::array::{Array, AsArray, RecordBatch};
use deltalake::arrow::datatypes::{DataType, Decimal128Type, Int32Type, Int64Type, TimestampMicrosecondType};
use deltalake::logstore::parquet_reader::ParquetObjectReader;
use deltalake::parquet::arrow::async_reader::ParquetRecordBatchStreamBuilder;
use deltalake::{DeltaTableBuilder, Path};
use futures::TryStreamExt;
use url::Url;

/// A table at its newest version.
#[derive(Debug)]
pub struct Snapshot {
    /// The version.
    pub version: u64,
    /// Its active files.
    pub files: Vec<String>,
    /// The columns of its schema, with their types.
    pub columns: Vec<(String, String)>,
    batches: Vec<RecordBatch>,
}

impl Snapshot {
    /// Reads a table below the lake's root, whole.
    pub async fn read(lake: &Url, name: &str) -> anyhow::Result<Self> {
        Self::read_table(&lake.join(&format!("{name}/"))?).await.with_context(|| format!("table {name}"))
    }

    async fn read_table(url: &Url) -> anyhow::Result<Self> {
        let table = DeltaTableBuilder::from_url(url.clone())?.load().await?;
        let files: Vec<Path> = table.get_files_by_partitions(&[]).await?;
        let schema = table.snapshot()?.schema();
        let columns = schema.fields().map(|field| (field.name().clone(), field.data_type().to_string())).collect();
        let mut batches = Vec::new();
        for file in &files {
            let reader = ParquetObjectReader::new(table.object_store(), file.clone());
            let stream = ParquetRecordBatchStreamBuilder::new(reader).await?.build()?;
            batches.extend(stream.try_collect::<Vec<_>>().await?);
        }
        let files = files.iter().map(Path::to_string).collect();
        Ok(Self { version: table.version().context("a loaded table has a version")?, files, columns, batches })
    }

    /// Rows in all files.
    pub fn rows(&self) -> u64 {
        self.batches.iter().map(|batch| batch.num_rows() as u64).sum()
    }

    /// A column of texts; null where a file does not have it.
    pub fn texts(&self, name: &str) -> anyhow::Result<Vec<Option<String>>> {
        self.column(name, |column| {
            let texts = column.as_string_opt::<i32>()?;
            Some(texts.iter().map(|text| text.map(str::to_owned)).collect())
        })
    }

    /// A column of whole numbers, decimals of scale 0 or timestamps (microseconds); null where a file does not have
    /// it.
    pub fn integers(&self, name: &str) -> anyhow::Result<Vec<Option<i128>>> {
        #[expect(clippy::wildcard_enum_match_arm, reason = "Arrow's enum, not ours")]
        self.column(name, |column| {
            Some(match column.data_type() {
                DataType::Int32 => column.as_primitive::<Int32Type>().iter().map(|v| v.map(i128::from)).collect(),
                DataType::Int64 => column.as_primitive::<Int64Type>().iter().map(|v| v.map(i128::from)).collect(),
                DataType::Timestamp(..) => {
                    let micros = column.as_primitive_opt::<TimestampMicrosecondType>()?;
                    micros.iter().map(|v| v.map(i128::from)).collect()
                }
                DataType::Decimal128(_, 0) => column.as_primitive::<Decimal128Type>().iter().collect(),
                _ => return None,
            })
        })
    }

    /// For each row, whether the column is null there.
    pub fn nulls(&self, name: &str) -> anyhow::Result<Vec<bool>> {
        let nulls = self.column(name, |column| Some((0..column.len()).map(|row| Some(column.is_null(row))).collect()));
        Ok(nulls?.into_iter().map(|null| null.unwrap_or(true)).collect())
    }

    fn column<T: Clone>(
        &self,
        name: &str,
        read: impl Fn(&dyn Array) -> Option<Vec<Option<T>>>,
    ) -> anyhow::Result<Vec<Option<T>>> {
        if !self.columns.iter().any(|(column, _)| column == name) {
            bail!("no column {name:?} in {:?}", self.columns);
        }
        let mut values = Vec::new();
        for batch in &self.batches {
            match batch.column_by_name(name) {
                Some(column) => values.extend(
                    read(column).with_context(|| format!("column {name:?} is of type {}", column.data_type()))?,
                ),
                None => values.resize(values.len() + batch.num_rows(), None),
            }
        }
        Ok(values)
    }
}
