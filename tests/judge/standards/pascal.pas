var a, b: integer;
begin
  read(a, b);
  writeln(a + b + 100000 - 100000);
end.
