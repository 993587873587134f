main = do { s <- getLine; print (sum (map read (words s) :: [Int])) }
