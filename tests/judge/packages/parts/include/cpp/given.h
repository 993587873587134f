long long given();
