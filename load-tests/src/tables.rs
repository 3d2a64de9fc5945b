//! A table as deltalake's own reader finds it: from its log alone.

use anyhow::{Context, bail};
use deltalake::arrow::array::{Array, AsArray, RecordBatch};
use deltalake::arrow::datatypes::{DataType, Decimal128Type, Int32Type, Int64Type, TimestampMicrosecondType};
use deltalake::logstore::parquet_reader::ParquetObjectReader;
use deltalake::parquet::arrow::ProjectionMask;
use deltalake::parquet::arrow::async_reader::ParquetRecordBatchStreamBuilder;
use deltalake::{DeltaTable, DeltaTableBuilder, Path};
use futures::TryStreamExt;
use url::Url;

/// A table at its newest version, or one file of it.
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
        let (table, mut snapshot) = Self::open(lake, name).await?;
        for file in &snapshot.files {
            snapshot.batches.extend(batches(&table, file, None).await?);
        }
        Ok(snapshot)
    }

    /// Reads these columns of a table file by file, so that its size does not matter.
    pub async fn each_file(
        lake: &Url,
        name: &str,
        columns: &[&str],
        mut look: impl FnMut(&Self) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let (table, mut snapshot) = Self::open(lake, name).await?;
        for file in std::mem::take(&mut snapshot.files) {
            snapshot.batches = batches(&table, &file, Some(columns)).await?;
            snapshot.files = vec![file];
            look(&snapshot).with_context(|| format!("table {name}, file {}", snapshot.files[0]))?;
        }
        Ok(())
    }

    async fn open(lake: &Url, name: &str) -> anyhow::Result<(DeltaTable, Self)> {
        let url = lake.join(&format!("{name}/"))?;
        let table = DeltaTableBuilder::from_url(url)?.load().await.with_context(|| format!("table {name}"))?;
        let files: Vec<Path> = table.get_files_by_partitions(&[]).await?;
        let schema = table.snapshot()?.schema();
        let columns = schema.fields().map(|field| (field.name().clone(), field.data_type().to_string())).collect();
        let files = files.iter().map(Path::to_string).collect();
        let version = table.version().context("a loaded table has a version")?;
        Ok((table, Self { version, files, columns, batches: Vec::new() }))
    }

    /// Rows in all files.
    pub fn rows(&self) -> u64 {
        self.batches.iter().map(|batch| batch.num_rows() as u64).sum()
    }

    /// The rows themselves, as the files have them.
    pub fn batches(&self) -> &[RecordBatch] {
        &self.batches
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

/// One file's rows: of these columns, or of all.
async fn batches(table: &DeltaTable, file: &str, columns: Option<&[&str]>) -> anyhow::Result<Vec<RecordBatch>> {
    let reader = ParquetObjectReader::new(table.object_store(), Path::parse(file)?);
    let mut builder = ParquetRecordBatchStreamBuilder::new(reader).await.with_context(|| file.to_owned())?;
    if let Some(columns) = columns {
        let mask = ProjectionMask::columns(builder.parquet_schema(), columns.iter().copied());
        builder = builder.with_projection(mask);
    }
    builder.build()?.try_collect().await.with_context(|| file.to_owned())
}
