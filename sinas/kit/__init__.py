"""What would make sense in another project: imports nothing of sinas but its errors."""
