"""What the gate found, in the forms that CI systems read."""
